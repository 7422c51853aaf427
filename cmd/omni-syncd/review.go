package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/diff/mask"
	"github.com/omni-syncd/omni-syncd/pkg/report"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// review is a plan of everything, with what it was made from.
type review struct {
	cfg      *config.Config
	status   sync.Status
	evidence map[sync.Key]sync.Evidence
	// base says in words what was compared with, if that is not the live Omni.
	base string
}

// The rules of what a review finds, beside those of [diff.Rules] and [template.Rules].
const (
	ruleRefused = "refused-by-omni"
	ruleSource  = "source-failed"
)

// live plans the step from what Omni holds to what the sources say.
func (o *oneShot) live(cmd *cobra.Command, cfg *config.Config) (*review, error) {
	r := &review{cfg: cfg, evidence: map[sync.Key]sync.Evidence{}}

	var err error

	r.status, err = o.pass(cmd, cfg, true, func(engine *sync.Engine, status sync.Status) {
		for i := range status.Targets {
			r.evidence[status.Targets[i].Key] = engine.Evidence(status.Targets[i].Key)
		}
	})

	return r, err
}

// between plans the step from where the checked-out commit left a branch, without Omni.
func (o *oneShot) between(cmd *cobra.Command, cfg *config.Config, ref string) (*review, error) {
	ctx, cancel := o.deadline(cmd.Context())
	defer cancel()

	r := &review{cfg: cfg, evidence: map[sync.Key]sync.Evidence{}, base: ref}

	err := o.eachStep(ctx, cmd.ErrOrStderr(), cfg, ref, func(src sync.SourceConfig, base, head fs.FS) {
		status, evidence := sync.Between(ctx, src, base, head)
		r.status.Sources = append(r.status.Sources, status.Sources...)
		r.status.Targets = append(r.status.Targets, status.Targets...)

		maps.Copy(r.evidence, evidence)
	})

	r.status.Ready = true
	relocate(cfg, r.status)

	return r, err
}

// onlyChanged leaves the targets out that the step from a branch does not change. What is
// wrong with the files stays.
func (o *oneShot) onlyChanged(cmd *cobra.Command, r *review, ref string) error {
	ctx, cancel := o.deadline(cmd.Context())
	defer cancel()

	changed := map[sync.Key]bool{}

	err := o.eachStep(ctx, cmd.ErrOrStderr(), r.cfg, ref, func(src sync.SourceConfig, base, head fs.FS) {
		status, _ := sync.Between(ctx, src, base, head)

		for i := range status.Targets {
			if t := &status.Targets[i]; !t.Plan.Empty() {
				changed[t.Key] = true
			}
		}
	})

	r.status.Targets = slices.DeleteFunc(r.status.Targets, func(t sync.TargetStatus) bool { return !changed[t.Key] })

	return err
}

// eachStep calls fn for each source that is checked out here, with its tree where the
// checked-out commit left ref, and as it lies on the disk now. Others are said to be left out.
func (o *oneShot) eachStep(ctx context.Context, notes io.Writer, cfg *config.Config, ref string, fn func(src sync.SourceConfig, base, head fs.FS)) error {
	from := newOrigins("", zap.NewNop(), nil)
	defer from.close()

	checkedOut := 0

	for i := range cfg.Sources {
		src := &cfg.Sources[i]
		if src.Dir == nil {
			fmt.Fprintf(notes, "the source %s is left out: it is not checked out here; --checkout %s=DIR says where it is\n", src.Name, src.Name)

			continue
		}

		checkedOut++

		base, err := treeAt(ctx, src.Dir.Path, ref)
		if err != nil {
			return err
		}

		opened, err := from.open(src)
		if err != nil {
			return err
		}

		head, err := opened.Fetch(ctx)
		if err != nil {
			return fmt.Errorf("reading %s: %w", src.Dir.Path, err)
		}

		fn(sync.SourceConfig{Name: src.Name, Scope: scopeOf(src), Prune: src.Prune, MaxDelete: *src.MaxDelete, PruneForeign: src.Foreign == config.Prune}, base, head.FS)
	}

	if checkedOut == 0 {
		return errors.New("no source is checked out here, so there is nothing to compare; name a directory")
	}

	return nil
}

// treeAt returns a directory as it was in the commit where HEAD left ref.
func treeAt(ctx context.Context, dir, ref string) (fs.FS, error) {
	fork, err := source.ForkOf(dir, ref)
	if err != nil {
		return nil, err
	}

	git := source.NewGit(source.GitConfig{URL: fork.Repository, Ref: source.Ref{Commit: fork.Base}})
	defer git.Close() //nolint:errcheck // what was read stays readable

	revision, err := git.Fetch(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the commit %s of %s: %w", fork.Base, fork.Repository, err)
	}

	return fs.Sub(revision.FS, fork.Folder)
}

// report turns a review into what the writers of diff take.
func (r *review) report(name string, hidden mask.Options) *diff.Report {
	out := &diff.Report{Name: name, Base: r.base, Mask: hidden}

	var plans []*diff.Plan

	for i := range r.status.Targets {
		if t := &r.status.Targets[i]; t.Plan != nil { // else its template is broken, and its problems are told
			t.Plan = masked(t.Plan, hidden)
			plans = append(plans, t.Plan)
		}
	}

	for i := range r.status.Targets {
		t := &r.status.Targets[i]
		if t.Plan == nil {
			continue
		}

		found := r.evidence[t.Key]

		out.Entries = append(out.Entries, diff.Entry{
			Plan: t.Plan, Path: r.file(t.Source, t.Path), Held: held(t),
			Consequences: diff.Consequences(t.Plan, diff.Scene{Live: found.Live, Desired: found.Desired, Plans: plans}),
			Position: func(md *resource.Metadata) (string, int, int) {
				at := found.Position(md)

				return r.file(t.Source, at.File), at.Line, at.Column
			},
		})

		for _, p := range found.Refused {
			out.Problems = append(out.Problems, report.Finding{
				Rule: ruleRefused, Level: report.Error, Message: p.Message, File: r.file(t.Source, p.File), Line: p.Line, Column: p.Column, Target: t.Target,
			})
		}
	}

	for i := range r.status.Sources {
		src := &r.status.Sources[i]
		if src.Error != "" {
			out.Problems = append(out.Problems, report.Finding{Rule: ruleSource, Level: report.Error, Message: "source " + src.Name + ": " + src.Error})
		}

		for _, p := range src.Problems {
			out.Problems = append(out.Problems, report.Finding{
				Rule: string(cmp.Or(p.Rule, template.RuleInvalid)), Level: report.Error, Message: p.Message, File: filepath.ToSlash(p.File), Line: p.Line, Column: p.Column,
			})
		}
	}

	out.Sort()

	return out
}

// masked returns a plan whose fields are masked as somebody says; what is known to be secret
// is masked when a plan is made.
func masked(plan *diff.Plan, hidden mask.Options) *diff.Plan {
	if !hidden.Show && len(hidden.Declared) == 0 {
		return plan
	}

	copied := *plan
	copied.Changes = slices.Clone(plan.Changes)

	for i := range copied.Changes {
		if c := &copied.Changes[i]; c.Old != nil && c.New != nil {
			c.Fields = diff.FieldsWith(c.Old, c.New, hidden)
		}
	}

	return &copied
}

// file names a file of a source as the person who named a directory finds it.
func (r *review) file(name, file string) string {
	for i := range r.cfg.Sources {
		if src := &r.cfg.Sources[i]; src.Name == name && src.Dir != nil && file != "" {
			return filepath.ToSlash(filepath.Join(src.Dir.Path, file))
		}
	}

	return file
}

// checkOut has sources of a configuration read from directories, such as the pull request
// that a CI job has checked out: "SOURCE=DIR", or "DIR" if there is one source.
func checkOut(cfg *config.Config, directories []string) error {
	for _, word := range directories {
		name, dir, named := strings.Cut(word, "=")
		if !named {
			name, dir = cfg.Sources[0].Name, word
		}

		i := slices.IndexFunc(cfg.Sources, func(s config.Source) bool { return s.Name == name })

		switch {
		case !named && len(cfg.Sources) > 1:
			return fmt.Errorf("--checkout %s: the configuration has %d sources; write SOURCE=DIR", word, len(cfg.Sources))
		case i < 0:
			return fmt.Errorf("--checkout %s: the configuration has no source %q", word, name)
		}

		cfg.Sources[i].Git, cfg.Sources[i].Webhook, cfg.Sources[i].Dir = nil, nil, &config.Dir{Path: dir}
	}

	return nil
}
