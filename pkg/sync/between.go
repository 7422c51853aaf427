package sync

import (
	"cmp"
	"context"
	"io/fs"
	"maps"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// Between plans what the step from one revision of a source to another changes, as if
// Omni held exactly what base renders to. It needs no Omni, so it knows nothing of drift,
// of locks and of what Omni would refuse; and nothing of guards that ask how much leaves
// at once. The evidence is that of the plans. The status holds a plan for each target of either revision, and the problems of
// head. What is wrong with base is its own fault: what could not be read of it counts as
// new.
func Between(ctx context.Context, src SourceConfig, base, head fs.FS) (Status, map[Key]Evidence) {
	renderer := render.New() // what is the same in both is rendered once

	before, _, _ := rendered(ctx, renderer, base, src.Scope)
	after, problems, broken := rendered(ctx, renderer, head, src.Scope)

	status := Status{Ready: true, Sources: []SourceStatus{{Name: src.Name, Fetched: true, Problems: problems}}}
	live, evidence := applied(src.Name, before), map[Key]Evidence{}

	names := map[string]bool{}
	for _, targets := range []map[string]*render.Target{before, after} {
		for name := range targets {
			names[name] = true
		}
	}

	for _, name := range slices.Sorted(maps.Keys(names)) {
		t := TargetStatus{Key: Key{src.Name, name}, Sync: Synced}
		in := diff.Input{Source: src.Name, Target: name, Live: live.of(name, after[name]), PruneForeign: src.PruneForeign}

		if now := after[name]; now != nil {
			in.Desired, in.Path, t.Path = now.Resources, now.Path, now.Path
		} else if broken {
			continue // it may be in the file that cannot be read
		} else {
			in.Removed = true

			if !src.Prune {
				in.Keep = "prune is off for this source"
			}
		}

		if t.Plan = diff.Compute(in); !t.Plan.Empty() {
			t.Sync = OutOfSync
		}

		status.Targets = append(status.Targets, t)
		evidence[t.Key] = Evidence{Desired: in.Desired, Live: in.Live, target: after[name]}
	}

	return status, evidence
}

// rendered returns the targets of a revision, and whether a file of it is broken.
func rendered(ctx context.Context, renderer *render.Renderer, files fs.FS, scope template.Scope) (map[string]*render.Target, template.Problems, bool) {
	set, problems := template.Find(files, scope)
	targets, refused := renderer.Render(ctx, set)
	problems = append(problems, refused...)

	byName := make(map[string]*render.Target, len(targets))
	for _, t := range targets {
		byName[t.Name] = t
	}

	return byName, problems, len(problems) > 0
}

// imagined is what Omni would hold.
type imagined struct {
	byTarget map[string][]resource.Resource
	byID     map[ref]resource.Resource
}

// applied returns what Omni would hold if targets had been applied to an empty one.
func applied(source string, targets map[string]*render.Target) imagined {
	i := imagined{map[string][]resource.Resource{}, map[ref]resource.Resource{}}

	for name, t := range targets {
		plan := diff.Compute(diff.Input{Source: source, Target: name, Path: t.Path, Desired: t.Resources})

		for j := range plan.Changes {
			made := plan.Changes[j].New
			i.byTarget[name] = append(i.byTarget[name], made)
			i.byID[ref{made.Metadata().Type(), made.Metadata().ID()}] = made
		}
	}

	return i
}

// of returns what a plan for a target has to know: what the target has, and the twins of
// what it wants, which may be in another cluster.
func (i imagined) of(name string, wanted *render.Target) []resource.Resource {
	live := slices.Clone(i.byTarget[name])
	if wanted == nil {
		return live
	}

	for _, r := range wanted.Resources {
		if twin := i.byID[ref{r.Metadata().Type(), r.Metadata().ID()}]; twin != nil && !slices.Contains(live, twin) {
			live = append(live, twin)
		}
	}

	slices.SortFunc(live, func(a, b resource.Resource) int {
		return cmp.Or(cmp.Compare(a.Metadata().Type(), b.Metadata().Type()), cmp.Compare(a.Metadata().ID(), b.Metadata().ID()))
	})

	return live
}
