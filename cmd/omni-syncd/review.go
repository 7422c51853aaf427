package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	// base is what was compared with, if that is not the live Omni, and broken is how much of
	// it could not be read.
	base   string
	broken int
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

	r.status, err = o.plan(cmd, cfg, func(engine *sync.Engine, status sync.Status) {
		for i := range status.Targets {
			r.evidence[status.Targets[i].Key] = engine.Evidence(status.Targets[i].Key)
		}
	})

	return r, err
}

// between plans the step from where the checked-out commit left a branch, without Omni.
func (o *oneShot) between(cmd *cobra.Command, cfg *config.Config, ref string) (*review, error) {
	found, err := o.step(cmd, cfg, ref)
	if err != nil {
		return nil, err
	}

	r := &review{cfg: cfg, status: found.Status, evidence: found.Evidence, base: ref}
	for _, problems := range found.Base {
		r.broken += len(problems)
	}

	relocate(cfg, r.status)

	return r, nil
}

// onlyChanged leaves the targets out that the step from a branch does not change. What is
// wrong with the files stays.
func (o *oneShot) onlyChanged(cmd *cobra.Command, r *review, ref string) error {
	found, err := o.step(cmd, r.cfg, ref)
	if err != nil {
		return err
	}

	unchanged := map[sync.Key]bool{}
	for i := range found.Status.Targets {
		t := &found.Status.Targets[i]
		unchanged[t.Key] = t.Plan != nil && t.Plan.Empty()
	}

	r.status.Targets = slices.DeleteFunc(r.status.Targets, func(t sync.TargetStatus) bool {
		same, known := unchanged[t.Key]

		return same || !known // what neither revision knows is in Omni alone
	})

	return nil
}

// step plans the step from where the checked-out commit left a branch, for the sources that
// are checked out here; the others are said to be left out. What was broken in the base is
// said, too.
func (o *oneShot) step(cmd *cobra.Command, cfg *config.Config, ref string) (*sync.Review, error) {
	ctx, cancel := o.deadline(cmd.Context())
	defer cancel()

	from := newOrigins("", zap.NewNop(), nil)
	defer from.close()

	sources, err := from.sources(cfg, true)
	if err != nil {
		return nil, err
	}

	var steps []sync.Step

	for i := range cfg.Sources {
		src := &cfg.Sources[i]
		if src.Dir == nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "the source %s is left out: it is not checked out here; --checkout %s=DIR says where it is\n", src.Name, src.Name)

			continue
		}

		base, done, err := treeAt(ctx, src.Dir.Path, ref)
		if err != nil {
			return nil, err
		}
		defer done()

		opened, err := from.open(src)
		if err != nil {
			return nil, err
		}

		head, err := opened.Fetch(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", src.Dir.Path, err)
		}

		steps = append(steps, sync.Step{Source: sources[i], Base: base, Head: head.FS})
	}

	if len(steps) == 0 {
		return nil, errors.New("no source is checked out here, so there is nothing to compare; name a directory")
	}

	found, err := sync.Between(ctx, steps)
	if err != nil {
		return nil, err
	}

	for name, problems := range found.Base {
		for _, p := range problems {
			fmt.Fprintf(cmd.ErrOrStderr(), "where HEAD left %s, source %s: %v\n", ref, name, p)
		}
	}

	return found, nil
}

// treeAt returns a directory as it was in the commit where HEAD left ref. It can be read until
// done is called.
func treeAt(ctx context.Context, dir, ref string) (tree fs.FS, done func(), err error) {
	fork, err := source.ForkOf(dir, ref)
	if err != nil {
		return nil, nil, err
	}

	git := source.NewGit(source.GitConfig{URL: fork.Repository, Ref: source.Ref{Commit: fork.Base}})
	done = func() { _ = git.Close() } // a temporary directory

	revision, err := git.Fetch(ctx)
	if err != nil {
		done()

		return nil, nil, fmt.Errorf("reading the commit %s of %s: %w", fork.Base, fork.Repository, err)
	}

	tree, err = fs.Sub(revision.FS, fork.Folder)

	return tree, done, err
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
			Consequences: diff.Consequences(t.Plan, diff.Scene{Live: found.Live, Desired: found.Desired, Plans: plans, Whole: found.Whole}),
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
		src := &r.cfg.Sources[i]
		if src.Name != name || src.Dir == nil || file == "" {
			continue
		}

		dir := src.Dir.Path
		if root := repositoryOf(dir); filepath.IsAbs(dir) && root != "" {
			dir, _ = filepath.Rel(root, dir) // as the services that read reports name files
		}

		return filepath.ToSlash(filepath.Join(dir, file))
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
