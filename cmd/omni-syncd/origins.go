package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/source/signature"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// origin is where a source reads from: both kinds of pkg/source have these.
type origin interface {
	Fetch(ctx context.Context) (source.Revision, error)
	Watch(ctx context.Context, fn func(source.Revision, error)) error
	Poke()
	Follows(head, commit string) (yes, known bool)
}

// origins opens what sources read from, each once: sources of one repository share its
// clone and its poll, and a source that stays the same when the configuration is read
// again keeps what it has.
type origins struct {
	stateDir string
	log      *zap.Logger
	progress func(string)
	observe  func(source.Request) // of every request to a Git server; may be nil

	git map[string]*source.Git
	dir map[string]*source.Dir
}

func newOrigins(stateDir string, log *zap.Logger, progress func(string)) *origins {
	return &origins{stateDir: stateDir, log: log, progress: progress, git: map[string]*source.Git{}, dir: map[string]*source.Dir{}}
}

// open returns what a source reads from. The error says what is wrong with its
// configuration.
func (o *origins) open(src *config.Source) (origin, error) {
	if src.Dir != nil {
		if o.dir[src.Dir.Path] == nil {
			o.dir[src.Dir.Path] = source.NewDir(source.DirConfig{Path: src.Dir.Path, Logger: o.log})
		}

		return o.dir[src.Dir.Path], nil
	}

	cfg := gitConfig(src)
	key := originKey(src)

	if git := o.git[key]; git != nil {
		git.Hurry(cfg.Interval)

		return git, nil
	}

	if o.stateDir != "" {
		sum := sha256.Sum256([]byte(key))
		cfg.StateDir = filepath.Join(o.stateDir, "git", hex.EncodeToString(sum[:]))
	}

	cfg.Logger, cfg.Progress, cfg.Observe = o.log, o.progress, o.observe

	if v := src.Git.Verify; v != nil {
		verifier, err := signature.Load(signature.Config{Mode: signature.Mode(v.Mode), KeyFiles: v.Keys})
		if err != nil {
			return nil, fmt.Errorf("git.verify: %w", err)
		}

		cfg.Verify = func(signed source.Signed) error { return verify(verifier, signed) }
	}

	git := source.NewGit(cfg)
	if err := git.Validate(); err != nil {
		return nil, errors.Join(err, git.Close())
	}

	o.git[key] = git

	return git, nil
}

// gitConfig translates the configuration of a repository.
func gitConfig(src *config.Source) source.GitConfig {
	g := src.Git
	cfg := source.GitConfig{
		URL: g.URL,
		Ref: source.Ref{Branch: g.Branch, Tag: g.Tag, SemVer: g.SemVer, Commit: g.Commit, Name: g.Ref},
		Login: source.Login{
			User: g.User, PasswordFile: g.PasswordFile, TokenFile: g.TokenFile,
			SSHKeyFile: g.SSH.KeyFile, SSHPassphraseFile: g.SSH.PassphraseFile, SSHAgent: g.SSH.Agent, KnownHostsFile: g.SSH.KnownHostsFile,
		},
		TLS:   source.TLS{CAFile: g.TLS.CAFile, CertFile: g.TLS.CertFile, KeyFile: g.TLS.KeyFile},
		Proxy: g.Proxy.URL, ProxyPasswordFile: g.Proxy.PasswordFile,
		Interval: time.Duration(src.Interval), Timeout: time.Duration(g.Timeout),
	}

	if app := g.GitHubApp; app != nil {
		cfg.Login.GitHubApp = &source.GitHubApp{AppID: app.AppID, InstallationID: app.InstallationID, PrivateKeyFile: app.PrivateKeyFile, BaseURL: app.BaseURL}
	}

	return cfg
}

// originKey tells apart repositories that need a clone each.
func originKey(src *config.Source) string {
	return gitConfig(src).Key() + verifyKey(src.Git.Verify)
}

// verifyKey tells apart what must be signed, and by whom.
func verifyKey(v *config.Verify) string {
	if v == nil {
		return ""
	}

	return " " + v.Mode + " " + strings.Join(v.Keys, "\x00")
}

// verify refuses a revision that is not signed as it must be.
func verify(verifier *signature.Verifier, signed source.Signed) error {
	var tag *signature.Object
	if signed.Tag != nil {
		tag = &signature.Object{Raw: signed.Tag, ID: signed.TagID, Name: strings.TrimPrefix(signed.Ref, "refs/tags/")}
	}

	_, err := verifier.Verify(signature.Object{Raw: signed.Commit, ID: signed.CommitID}, tag)

	return err
}

// sources returns the sources of a configuration as the engine wants them. With once each
// is looked at a single time. The error names every source that cannot be used.
func (o *origins) sources(cfg *config.Config, once bool) ([]sync.SourceConfig, error) {
	var (
		sources []sync.SourceConfig
		errs    []error
	)

	for i := range cfg.Sources {
		src := &cfg.Sources[i]

		from, err := o.open(src)
		if err != nil {
			errs = append(errs, fmt.Errorf("source %s: %w", src.Name, err))

			continue
		}

		engineSource := sync.SourceConfig{
			Name: src.Name, Source: from, Scope: scopeOf(src), Follows: from.Follows,
			Origin: src.Origin, Prune: src.Prune, DeletionsPaused: cfg.Deletions == config.Paused, DeleteAfter: time.Duration(*src.DeleteAfter),
			MaxDelete: *src.MaxDelete, MaxDeleteResources: *src.MaxDeleteResources, MaxDeleteMachines: *src.MaxDeleteMachines,
			PruneForeign: src.Foreign == config.Prune, Allow: sync.Allow(src.Allow),
			Policy: sync.Policy{
				Suspended: src.Suspend, Manual: src.Sync == config.Manual, Protected: src.Deletion == config.Protected,
			},
		}
		if once {
			engineSource.Source = sync.Once(from.Fetch)
		}

		// What left Git is asked about; a one-shot keeps what it cannot tell of.
		if git, ok := from.(*source.Git); ok && (src.Prune || once) {
			git.KeepHistory()
		}

		sources = append(sources, engineSource)
	}

	return sources, errors.Join(errs...)
}

// keep closes the repositories that a configuration has no use for any more, and looks at
// the others as often as it says.
func (o *origins) keep(cfg *config.Config) {
	intervals := map[string]time.Duration{}

	for i := range cfg.Sources {
		if src := &cfg.Sources[i]; src.Git != nil {
			key, interval := originKey(src), time.Duration(src.Interval)
			if least, ok := intervals[key]; !ok || interval < least {
				intervals[key] = interval
			}
		}
	}

	for key, git := range o.git {
		if interval, ok := intervals[key]; ok {
			git.SetInterval(interval)

			continue
		}

		if err := git.Close(); err != nil {
			o.log.Warn("closing a repository", zap.Error(err))
		}

		delete(o.git, key)
	}
}

// close gives back what is open.
func (o *origins) close() {
	for _, git := range o.git {
		if err := git.Close(); err != nil {
			o.log.Warn("closing a repository", zap.Error(err))
		}
	}
}

func scopeOf(src *config.Source) template.Scope {
	return template.Scope{Root: filepath.ToSlash(src.Path), Include: src.Include, Exclude: src.Exclude}
}

// describeOrigin says where a source comes from, for people; nothing secret is in it.
func describeOrigin(src *config.Source) string {
	if src.Dir != nil {
		return src.Dir.Path
	}

	ref := cmp.Or(src.Git.Branch, src.Git.Tag, src.Git.SemVer, src.Git.Commit, src.Git.Ref)
	if ref == "" {
		return source.Redact(src.Git.URL)
	}

	return source.Redact(src.Git.URL) + " at " + ref
}
