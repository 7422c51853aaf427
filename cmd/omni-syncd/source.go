package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// sourceFlags are the flags that describe a single source on the command line.
type sourceFlags struct {
	config   string
	name     string
	git      config.Git
	path     string
	include  []string
	exclude  []string
	interval time.Duration
	prune    bool

	maxDelete, maxDeleteResources int

	deleteAfter time.Duration
	origin      string
	stateDir    string

	// besideConfig are the flags of a source that may stand beside --config, too.
	besideConfig []string
}

// bindScope adds the flags of every verb that reads templates.
func (f *sourceFlags) bindScope(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.git.Branch, "branch", "", "branch to read (default: the repository's default branch)")
	flags.StringVar(&f.git.Tag, "tag", "", "tag to read")
	flags.StringVar(&f.git.SemVer, "semver", "", "range of versions, like '>=1.2.0 <2.0.0': the tag with the highest one in it is read")
	flags.StringVar(&f.git.Commit, "commit", "", "commit to read, by its full ID")
	flags.StringVar(&f.git.Ref, "ref", "", "any ref to read, by its full name, like refs/pull/7/merge")
	flags.StringVar(&f.git.User, "git-user", "", "user name for https")
	flags.StringVar(&f.git.PasswordFile, "git-password-file", "", "file with the user's password")
	flags.StringVar(&f.git.TokenFile, "git-token-file", "", "file with a token for https")
	flags.StringVar(&f.git.TLS.CAFile, "git-ca-file", "", "certificates (PEM) to trust besides the system's, for https")
	flags.StringVar(&f.git.Proxy.URL, "git-proxy", "", "http://, https:// or socks5:// proxy to the Git server (default: the environment's, for https)")
	flags.StringVar(&f.git.SSH.KeyFile, "ssh-key-file", "", "private key for ssh")
	flags.StringVar(&f.git.SSH.PassphraseFile, "ssh-passphrase-file", "", "file with the key's passphrase")
	flags.BoolVar(&f.git.SSH.Agent, "ssh-agent", false, "ask the agent at $SSH_AUTH_SOCK for keys (default: if there is one and no --ssh-key-file)")
	flags.StringVar(&f.git.SSH.KnownHostsFile, "ssh-known-hosts", "", "known_hosts file, for ssh (default ~/.ssh/known_hosts)")
	flags.StringVar(&f.path, "path", "", "folder of the templates inside the repository or directory")
	flags.StringSliceVar(&f.include, "include", nil, "only files that match one of these globs, relative to --path")
	flags.StringSliceVar(&f.exclude, "exclude", nil, "no files that match one of these globs, relative to --path")
}

// bindSync adds the flags of the verbs that compare with Omni.
func (f *sourceFlags) bindSync(cmd *cobra.Command) {
	f.bindScope(cmd)

	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "configuration file, instead of a source on the command line")
	flags.StringVar(&f.name, "name", "", "name of the source, written into the ownership mark of what it creates (default \"default\"; --prune wants one of its own)")
	flags.BoolVar(&f.prune, "prune", false, "delete clusters and fleet resources that left Git")
	flags.IntVar(&f.maxDelete, "max-delete", config.DefaultMaxDelete, "how many clusters may be deleted without a confirmation within an hour; 0 deletes none")
	flags.IntVar(&f.maxDeleteResources, "max-delete-resources", config.DefaultMaxDeleteResources, "the same for fleet resources")
	flags.StringVar(&f.origin, "origin", "", "what the repository is known by (default: its host and path)")
	flags.StringVar(&f.stateDir, "state-dir", "", "where fetched repositories are kept (default: a temporary directory)")
}

// bindDeleteAfter adds the flag of the verbs that say when what left Git goes. A one-shot waits for nothing.
func (f *sourceFlags) bindDeleteAfter(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.deleteAfter, "delete-after", config.DefaultDeleteAfter, "how long what left Git has to be gone before it is deleted")
}

// load returns the configuration that the command line describes: the file, or the one
// source that is named by the argument and the flags.
func (f *sourceFlags) load(cmd *cobra.Command, args []string) (*config.Config, error) {
	switch {
	case f.maxDelete < 0:
		return nil, fmt.Errorf("--max-delete %d: it cannot be negative; 0 deletes no cluster", f.maxDelete)
	case f.maxDeleteResources < 0:
		return nil, fmt.Errorf("--max-delete-resources %d: it cannot be negative; 0 deletes no fleet resource", f.maxDeleteResources)
	}

	if f.config != "" {
		if len(args) > 0 {
			return nil, errors.New("both --config and a source on the command line are given; choose one")
		}

		for _, name := range append(gitFlags, "path", "include", "exclude", "name", "prune", "max-delete", "max-delete-resources", "delete-after", "origin", "interval", "state-dir") {
			if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed && !slices.Contains(f.besideConfig, name) {
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
	case f.prune && f.name == "":
		return nil, errors.New("--prune needs a --name of its own, like --name fleet: sources that share a name share their clusters")
	case f.deleteAfter < 0:
		return nil, fmt.Errorf("--delete-after %s: it cannot be negative; 0 deletes at once", f.deleteAfter)
	case f.interval != 0 && f.interval < config.MinInterval:
		return nil, fmt.Errorf("--interval %s is too short, the least is %s", f.interval, config.MinInterval)
	}

	cfg := &config.Config{Sources: []config.Source{src}, StateDir: f.stateDir}
	cfg.SetDefaults()

	return cfg, nil
}

// single turns the argument of a verb into a source.
func (f *sourceFlags) single(arg string) (config.Source, error) {
	src := config.Source{
		Name: f.name, Path: f.path, Include: f.include, Exclude: f.exclude,
		Interval: config.Duration(f.interval), Prune: f.prune, MaxDelete: &f.maxDelete, MaxDeleteResources: &f.maxDeleteResources,
		DeleteAfter: new(config.Duration(f.deleteAfter)), Origin: f.origin,
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

		src.Dir, src.Include = &config.Dir{Path: filepath.Dir(arg)}, []string{template.Literal(filepath.Base(arg))}

		return src, f.noGit(arg)
	}

	kind, err := source.Parse(arg)
	if err != nil {
		return src, err
	}

	if kind == source.KindGit {
		src.Git = &f.git
		src.Git.URL = arg

		if source.OverSSH(arg) {
			likeSSH(&src.Git.SSH)
		}

		return src, errors.Join(src.Git.Check()...)
	}

	src.Dir = &config.Dir{Path: arg}

	return src, f.noGit(arg)
}

// likeSSH fills in what ssh itself takes if nothing is said: the person's known hosts, and
// the agent if there is one. A service says all of it in its configuration.
func likeSSH(s *config.SSH) {
	if s.KnownHostsFile == "" {
		if home, err := os.UserHomeDir(); err == nil {
			s.KnownHostsFile = filepath.Join(home, ".ssh", "known_hosts")
		}
	}

	if s.KeyFile == "" && os.Getenv("SSH_AUTH_SOCK") != "" {
		s.Agent = true
	}
}

// gitFlags are the flags that only a Git repository has.
var gitFlags = []string{
	"branch", "tag", "semver", "commit", "ref", "git-user", "git-password-file", "git-token-file", "git-ca-file", "git-proxy",
	"ssh-key-file", "ssh-passphrase-file", "ssh-agent", "ssh-known-hosts",
}

func (f *sourceFlags) noGit(arg string) error {
	if f.git == (config.Git{}) {
		return nil
	}

	return fmt.Errorf("--branch and its like need a Git repository, and %s is read as it lies on the disk; write file://%s for its commits", arg, absolute(arg))
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}

	return path
}
