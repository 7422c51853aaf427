// Package render turns templates and manifests into the COSI resources that should be in Omni. It is the third step of
// the flow
//
//	source → template → render → diff → sync → omni
//
// It gets a template.Set and hands a list of [Target] to package diff: one for every cluster template, and one for
// all plain manifests of the source together.
//
// What a template means is upstream's business: Load, Validate and Translate of
// github.com/siderolabs/omni/client/pkg/template, the code that omnictl runs. Nothing of it is done again here, since
// a patch ID that came out different by one character would rebuild machines. What is ours: files come from the
// revision and never from the disk, errors get positions, resources an order, and what has not changed is not
// rendered again.
package render

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/compression"
	"golang.org/x/sync/errgroup"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// Target is a unit of desired state: the resources of one cluster, or the fleet resources of a source. It is immutable.
type Target struct {
	// Name is the name of the cluster; "" for the fleet target, which holds all plain manifests of the source.
	Name string

	// Path is the template's file; "" for the fleet target.
	Path string

	// Digest stands for everything that went in. Equal digests mean equal resources.
	Digest string

	// Resources are sorted by rank, type and ID. They are shared: copy one before changing it. They are those for the oldest
	// release of Omni that can have what the template says; see [Target.For].
	Resources []resource.Resource

	// Settings are what the template says with keys that upstream's code of this build lacks. They are in Resources, too,
	// unless they are false or empty.
	Settings []template.Setting

	// Notes tell what of the template this build does not know and hands on all the same.
	Notes template.Problems

	position func(*resource.Metadata) template.Position

	newer *Target // the same for Omni from [installdisk.Since] on; nil if it is the same
}

// For returns the target as it is for an Omni: what a template says may be another kind of resource in a newer release.
func (t *Target) For(server livestate.Server) *Target {
	if t == nil || t.newer == nil || !server.Has(installdisk.Since) {
		return t
	}

	return t.newer
}

// Position returns where in the revision a resource of the target comes from, as precisely as is known; at worst the
// beginning of the file.
func (t *Target) Position(md *resource.Metadata) template.Position {
	if t.position == nil {
		return template.Position{File: t.Path}
	}

	return t.position(md)
}

// Renderer renders sets and remembers the newest, so that the next costs only what changed. It holds the targets of
// one source; use one Renderer per source, since a set replaces the one before. It is safe for concurrent use.
type Renderer struct {
	mu   sync.Mutex
	last rendered

	// The targets last looked at for conflicts between them, what they claim, and what came of it.
	compared  []*Target
	claims    claims
	usable    []*Target
	conflicts template.Problems
}

// rendered is a set and what it came to.
type rendered struct {
	templates   []*template.Template
	results     []*result // of each template
	byName      []int     // the templates in the order of their names
	fleetDigest string
	fleet       *result // nil: there are no manifests
}

// result is what rendering something came to: a target or problems.
type result struct {
	target   *Target
	problems template.Problems
}

var initCompression = sync.OnceValue(func() error { return compression.InitConfig(true) })

// New returns an empty Renderer.
//
// It sets up the compression of large specs as omnictl does. That is a switch of the whole process in upstream's
// library and makes no difference to what a resource means, only to how many bytes travel.
func New() *Renderer {
	if err := initCompression(); err != nil {
		panic(fmt.Sprintf("render: the dictionary built into Omni's client is broken: %v", err))
	}

	return &Renderer{claims: newClaims()}
}

// Render renders everything in the set that has no problems yet, on all cores. The targets are sorted by name. What
// cannot be rendered is in the problems (sorted; those that are in the set already are not repeated) and does not
// stop the others.
//
// A template whose digest was in the set before yields the same *Target again. When ctx ends early, there are no
// targets and one problem.
func (r *Renderer) Render(ctx context.Context, set *template.Set) ([]*Target, template.Problems) {
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()

	next := rendered{templates: set.Templates, results: last.stay(set.Templates), byName: last.order(set.Templates), fleetDigest: fleetDigest(set)}

	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))

	for i, res := range next.results {
		if res != nil {
			continue
		}

		group.Go(func() error {
			if ctx.Err() == nil {
				next.results[i] = renderTemplate(set.Templates[i])
			}

			return ctx.Err()
		})
	}

	switch {
	case len(set.Manifests) == 0:
	case next.fleetDigest == last.fleetDigest:
		next.fleet = last.fleet
	default:
		next.fleet = renderFleet(set, next.fleetDigest)
	}

	if err := group.Wait(); err != nil {
		return nil, template.Problems{{Message: fmt.Sprintf("rendering was interrupted: %v", err)}}
	}

	return r.collect(set, next)
}

// stay returns what the templates of the next set came to already; nil for those that are new or another.
func (r *rendered) stay(next []*template.Template) []*result {
	results, i := make([]*result, len(next)), 0

	for n, t := range next { // both are sorted by path
		if i < len(r.templates) && r.templates[i] == t {
			results[n] = r.results[i]
			i++

			continue
		}

		for i < len(r.templates) && r.templates[i].Path < t.Path {
			i++
		}

		if i < len(r.templates) && r.templates[i].Digest == t.Digest { // the path is part of the digest
			results[n] = r.results[i]
		}
	}

	return results
}

// order returns the templates of the next set in the order of their names: the one before, if the names are the same.
func (r *rendered) order(next []*template.Template) []int {
	if slices.EqualFunc(r.templates, next, func(a, b *template.Template) bool { return a == b || a.Name == b.Name }) {
		return r.byName
	}

	order := make([]int, len(next))
	for i := range order {
		order[i] = i
	}

	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(next[a].Name, next[b].Name) })

	return order
}

// collect keeps the results for the next set and picks out the targets that may be used.
func (r *Renderer) collect(set *template.Set, next rendered) ([]*Target, template.Problems) {
	var (
		targets  = make([]*Target, 0, len(next.results)+1)
		broken   []*Target // rendered, and not to be used
		problems template.Problems
	)

	add := func(known template.Problems, res *result) {
		problems = append(problems, res.problems...)

		// Problems between files are not part of the digest: they come and go with the other file.
		switch {
		case res.target == nil:
		case len(known) == 0:
			targets = append(targets, res.target)
		default:
			broken = append(broken, res.target)
		}
	}

	if next.fleet != nil {
		var known template.Problems
		for _, m := range set.Manifests {
			known = append(known, m.Problems...)
		}

		add(known, next.fleet)
	}

	for _, i := range next.byName {
		add(set.Templates[i].Problems, next.results[i])
	}

	r.mu.Lock()
	defer r.mu.Unlock()

	r.last = next

	if !slices.Equal(targets, r.compared) {
		r.claims.replace(r.compared, targets)
		r.compared = targets
		r.usable, r.conflicts = targets, nil

		if r.claims.twice > 0 {
			r.usable, r.conflicts = withoutConflicts(targets)
		}
	}

	problems = append(problems, r.conflicts...)

	return slices.Clone(r.usable), append(problems, brokenConflicts(targets, broken)...).Sorted()
}

func renderTemplate(t *template.Template) *result {
	text := t.Inlined()
	if text == nil {
		return &result{} // its problems say why
	}

	resources, notes, problems := translate(t, text)
	if len(problems) > 0 {
		return &result{problems: problems}
	}

	if problems := set(t.Settings(), resources); len(problems) > 0 && len(t.Problems) == 0 { // of a broken one, not all is there
		return &result{problems: problems}
	}

	resources = append(resources, selectors(t.Settings())...)
	sortResources(resources)

	target := &Target{
		Name:      t.Name,
		Path:      t.Path,
		Digest:    t.Digest,
		Resources: resources,
		Settings:  t.Settings(),
		Notes:     notes,
		position:  func(md *resource.Metadata) template.Position { return position(t, md) },
	}

	if disks := disksAsResources(resources); disks != nil {
		newer := *target
		newer.Resources, target.newer = disks, &newer
	}

	return &result{target: target}
}

func sortResources(resources []resource.Resource) {
	slices.SortStableFunc(resources, func(a, b resource.Resource) int {
		return cmp.Or(
			cmp.Compare(Rank(a.Metadata().Type()), Rank(b.Metadata().Type())),
			cmp.Compare(a.Metadata().Type(), b.Metadata().Type()),
			cmp.Compare(a.Metadata().ID(), b.Metadata().ID()),
		)
	})
}
