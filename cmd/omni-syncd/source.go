package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// opened is a source as this package opens it: both kinds of pkg/source have these.
type opened interface {
	Fetch(ctx context.Context) (source.Revision, error)
	Watch(ctx context.Context, fn func(source.Revision, error)) error
}

// sourceFlags are the flags that describe a single source on the command line.
type sourceFlags struct {
	config    string
	name      string
	branch    string
	path      string
	include   []string
	exclude   []string
	interval  time.Duration
	prune     bool
	maxDelete int
	confirm   []string
	stateDir  string
}

// bindScope adds the flags of every verb that reads templates.
func (f *sourceFlags) bindScope(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.branch, "branch", "", "branch to read (default: the repository's default branch)")
	flags.StringVar(&f.path, "path", "", "folder of the templates inside the repository or directory")
	flags.StringSliceVar(&f.include, "include", nil, "only files that match one of these globs, relative to --path")
	flags.StringSliceVar(&f.exclude, "exclude", nil, "no files that match one of these globs, relative to --path")
}

// bindSync adds the flags of the verbs that compare with Omni.
func (f *sourceFlags) bindSync(cmd *cobra.Command) {
	f.bindScope(cmd)

	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "configuration file, instead of a source on the command line")
	flags.StringVar(&f.name, "name", "default", "name of the source, written into the ownership mark of what it creates")
	flags.BoolVar(&f.prune, "prune", false, "delete clusters and fleet resources that left Git")
	flags.IntVar(&f.maxDelete, "max-delete", config.DefaultMaxDelete, "how many clusters may leave Git at once; 0 deletes none")
	flags.StringSliceVar(&f.confirm, "confirm", nil, "digest of a deletion that a guard stopped, as its message names it")
	flags.StringVar(&f.stateDir, "state-dir", "", "where fetched repositories are kept (default: a temporary directory)")
}

// load returns the configuration that the command line describes: the file, or the one
// source that is named by the argument and the flags.
func (f *sourceFlags) load(cmd *cobra.Command, args []string) (*config.Config, error) {
	if f.config != "" {
		if len(args) > 0 {
			return nil, errors.New("both --config and a source on the command line are given; choose one")
		}

		for _, name := range []string{"branch", "path", "include", "exclude", "name", "prune", "max-delete", "confirm", "interval", "state-dir"} {
			if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
				return nil, fmt.Errorf("--%s describes a source on the command line; with --config it stands in the file", name)
			}
		}

		return config.Load(f.config)
	}

	if len(args) == 0 {
		return nil, fmt.Errorf("which source? name a directory or a Git URL, like `%s ./clusters`", cmd.CommandPath())
	}

	src, err := f.single(args[0])
	if err != nil {
		return nil, err
	}

	switch {
	case f.prune && src.Dir != nil && src.Dir.Path != args[0]:
		return nil, fmt.Errorf("--prune with the single file %s would delete every other cluster of the source; name the directory", args[0])
	case f.maxDelete < 0:
		return nil, fmt.Errorf("--max-delete %d: it cannot be negative; 0 deletes no cluster", f.maxDelete)
	case f.interval != 0 && f.interval < config.MinInterval:
		return nil, fmt.Errorf("--interval %s is too short, the least is %s", f.interval, config.MinInterval)
	}

	return &config.Config{Sources: []config.Source{src}, StateDir: f.stateDir}, nil
}

// single turns the argument of a verb into a source.
func (f *sourceFlags) single(arg string) (config.Source, error) {
	src := config.Source{
		Name: f.name, Path: f.path, Include: f.include, Exclude: f.exclude,
		Interval: config.Duration(f.interval), Prune: f.prune, MaxDelete: &f.maxDelete, Confirm: f.confirm,
	}

	if src.Name == "" {
		src.Name = "default"
	}

	if err := config.CheckName(src.Name); err != nil {
		return src, err
	}

	// A single file stands for the directory it is in, and itself as the scope.
	if info, err := os.Stat(arg); err == nil && info.Mode().IsRegular() {
		if f.path != "" {
			return src, fmt.Errorf("%s is a file, so --path means nothing; name the directory instead", arg)
		}

		src.Dir, src.Include = &config.Dir{Path: filepath.Dir(arg)}, []string{literal(filepath.Base(arg))}

		return src, f.noBranch(arg)
	}

	kind, err := source.Parse(arg)
	if err != nil {
		return src, err
	}

	if kind == source.KindGit {
		src.Git = &config.Git{URL: arg, Branch: f.branch}

		return src, nil
	}

	src.Dir = &config.Dir{Path: arg}

	return src, f.noBranch(arg)
}

// literal returns a glob that matches only the given name.
func literal(name string) string {
	var glob strings.Builder

	for _, r := range name {
		if strings.ContainsRune(`*?[]{}\`, r) {
			glob.WriteByte('\\')
		}

		glob.WriteRune(r)
	}

	return glob.String()
}

func (f *sourceFlags) noBranch(arg string) error {
	if f.branch == "" {
		return nil
	}

	return fmt.Errorf("--branch needs a Git repository, and %s is read as it lies on the disk; write file://%s for its commits", arg, absolute(arg))
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}

	return path
}

func scopeOf(src *config.Source) template.Scope {
	return template.Scope{Root: filepath.ToSlash(src.Path), Include: src.Include, Exclude: src.Exclude}
}

// open returns the source that a configuration describes and a function that gives its
// resources back.
func open(src *config.Source, stateDir string, log *zap.Logger, progress func(string)) (opened, func() error) {
	if src.Dir != nil {
		return source.NewDir(source.DirConfig{Path: src.Dir.Path, Logger: log}), func() error { return nil }
	}

	if stateDir != "" {
		stateDir = filepath.Join(stateDir, "git", src.Name)
	}

	git := source.NewGit(source.GitConfig{
		URL:      src.Git.URL,
		Branch:   src.Git.Branch,
		Interval: time.Duration(src.Interval),
		StateDir: stateDir,
		Logger:   log,
		Progress: progress,
	})

	return git, git.Close
}

// openAll opens every source of a configuration as the engine wants it. With once each
// is looked at a single time.
func openAll(cfg *config.Config, once bool, log *zap.Logger, progress func(string)) ([]sync.SourceConfig, func() error) {
	var (
		sources []sync.SourceConfig
		closers []func() error
	)

	for i := range cfg.Sources {
		src := &cfg.Sources[i]
		from, closer := open(src, cfg.StateDir, log, progress)
		closers = append(closers, closer)

		engineSource := sync.SourceConfig{
			Name: src.Name, Source: from, Scope: scopeOf(src),
			Prune: src.Prune, MaxDelete: *src.MaxDelete, Confirm: src.Confirm, PruneForeign: src.Foreign == config.Prune,
			Policy: sync.Policy{
				Suspended: src.Suspend, Manual: src.Sync == config.Manual, Protected: src.Deletion == config.Protected,
			},
		}
		if once {
			engineSource.Source = sync.Once(from.Fetch)
		}

		sources = append(sources, engineSource)
	}

	return sources, func() error {
		var errs []error
		for _, closer := range closers {
			errs = append(errs, closer())
		}

		return errors.Join(errs...)
	}
}

// origin says where a source comes from, for people; nothing secret is in it.
func origin(src *config.Source) string {
	if src.Dir != nil {
		return src.Dir.Path
	}

	return source.Redact(src.Git.URL)
}
