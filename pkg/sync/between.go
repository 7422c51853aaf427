package sync

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// Step is what a source said, and what it says now.
type Step struct {
	// Source is how it is applied; what it reads from does not matter.
	Source SourceConfig
	// Base and Head are its files before and after.
	Base, Head fs.FS
}

// Review is a plan of everything, with what it was made from.
type Review struct {
	Status   Status
	Evidence map[Key]Evidence
	// Base is what is wrong with the files of the bases, by source. What could not be read
	// of a base cannot be compared: its targets have no plan.
	Base map[string]template.Problems
}

// Between plans what steps change, as if Omni held exactly what the bases render to: a
// state in memory does, and the engine itself plans, with its guards and with clusters
// that move from one source to another. It needs no Omni, so it knows nothing of drift, of
// locks and of what Omni would refuse.
func Between(ctx context.Context, steps []Step) (*Review, error) {
	review := &Review{Evidence: map[Key]Evidence{}, Base: map[string]template.Problems{}}
	held := state.WrapCore(namespaced.NewState(inmem.Build))
	cfg := Config{State: held, DryRun: true, Requested: true, NoPreflight: true}
	broken := map[Key]bool{}

	for i := range steps {
		step := &steps[i]

		src := step.Source
		src.Follows = nil // both are at hand
		src.Source = Once(func(context.Context) (source.Revision, error) {
			return source.Revision{ID: "head", FS: step.Head, Repository: "between"}, nil
		})
		cfg.Sources = append(cfg.Sources, src)

		set, problems := template.Find(step.Base, src.Scope)
		targets, refused := render.New().Render(ctx, set)

		if problems = append(problems, refused...); len(problems) > 0 {
			review.Base[src.Name] = problems.Sorted()
		}

		read := map[string]bool{}

		for _, t := range targets {
			read[t.Name] = true

			if err := hold(ctx, held, &src, t); err != nil {
				return nil, err
			}
		}

		for _, t := range set.Templates {
			broken[Key{src.Name, t.Name}] = !read[t.Name]
		}
	}

	if err := review.plan(ctx, cfg); err != nil {
		return nil, err
	}

	for i := range review.Status.Targets {
		if t := &review.Status.Targets[i]; broken[t.Key] {
			t.Plan, t.Sync, t.Message = nil, Unknown, "it cannot be compared: its template was broken before"
		}
	}

	return review, nil
}

// hold puts what a target renders to into a state, as if it had been applied.
func hold(ctx context.Context, held state.State, src *SourceConfig, t *render.Target) error {
	plan := diff.Compute(diff.Input{
		Source: src.Name, Target: t.Name, Desired: t.Resources, Set: t.Set(), Place: placeOf(src, &source.Revision{Repository: "between"}),
		File: func(md *resource.Metadata) string { return fileIn(t, md) },
	})

	for i := range plan.Changes {
		// Two sources may describe the same resource: the first one has it, as in Omni.
		if err := held.Create(ctx, plan.Changes[i].New.DeepCopy()); err != nil && !state.IsConflictError(err) {
			return fmt.Errorf("hold %s: %w", diff.Name(&plan.Changes[i]), err)
		}
	}

	return nil
}

// plan runs an engine until it has planned everything.
func (r *Review) plan(ctx context.Context, cfg Config) error {
	held := SnapshotConfig(cfg.State)
	for i := range held.Kinds {
		held.Kinds[i].Since = "" // there is no Omni that lacks one
	}

	cfg.Snapshot = omni.NewSnapshot(held)
	engine := New(cfg)

	ctx, stop := context.WithCancel(ctx)
	defer stop()

	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return cfg.Snapshot.Run(running) })
	group.Go(func() error { return engine.Run(running) })
	group.Go(func() error {
		defer stop()

		return engine.WaitStatus(running, func(status Status) bool {
			if !status.Settled() {
				return false
			}

			r.Status = status
			for i := range status.Targets {
				r.Evidence[status.Targets[i].Key] = engine.Evidence(status.Targets[i].Key)
			}

			return true
		})
	})

	return group.Wait()
}
