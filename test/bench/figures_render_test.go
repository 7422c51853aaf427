package bench

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	upstream "github.com/siderolabs/omni/client/pkg/template"
	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
	"github.com/omni-syncd/omni-syncd/test/fleet"
)

func size(clusters, machines int) string { return fmt.Sprintf("%d × %d", clusters, machines) }

// rendered finds and renders a revision, from nothing.
func rendered(tb testing.TB, revision source.Revision) []*render.Target {
	tb.Helper()

	_, targets := renderedNext(tb, render.New(), nil, revision)

	return targets
}

// renderedNext finds and renders a revision that follows another one.
func renderedNext(tb testing.TB, renderer *render.Renderer, previous *template.Set, revision source.Revision) (*template.Set, []*render.Target) {
	tb.Helper()

	set, problems := previous.Next(revision.FS, template.Scope{})
	targets, refused := renderer.Render(tb.Context(), set)

	if len(problems)+len(refused) > 0 {
		tb.Fatal(problems, refused)
	}

	return set, targets
}

// upstreamRender does what omnictl does with each template before it talks to Omni, so many at the same time. It
// resolves files from the folder that it runs in, so the template names them from there.
func upstreamRender(tb testing.TB, f *fleet.Fleet, clusters, sideBySide int) {
	tb.Helper()

	var (
		root  = upstreamRoot(tb, f)
		group errgroup.Group
	)

	group.SetLimit(sideBySide)

	for c := range clusters {
		group.Go(func() error {
			t, err := upstream.Load(bytes.NewReader(upstreamText(f, c)), upstream.WithRoot(root))
			if err != nil {
				return err
			}

			if err := t.Validate(); err != nil {
				return err
			}

			_, err = t.Translate()

			return err
		})
	}

	check(tb, group.Wait())
}

// renderFigures is templates to resources, without an Omni.
func renderFigures(tb testing.TB, r *report) {
	f := fleet.New(fleet.Config{Clusters: *large, Machines: largeMachines})
	repository := newRepository(tb, f.Files)

	clone := taken(func() { repository.fetch(tb) })
	r.add(tb, figure{Name: "clone", Fleet: size(*large, largeMachines), Ours: clone})

	revision := repository.fetch(tb)
	cold := least(3, func() measure { return taken(func() { rendered(tb, revision) }) })
	theirs := taken(func() { upstreamRender(tb, f, *large, 1) })
	bound := taken(func() { upstreamRender(tb, f, *large, runtime.GOMAXPROCS(0)) })

	r.add(tb, figure{
		Name: "render, cold", Fleet: size(*large, largeMachines), Ours: cold, Upstream: &theirs,
		Goal: "at most half of upstream's time", Met: cold.Wall*2 <= theirs.Wall,
	})

	// It is what bounds the line above: nothing can render faster that leaves the rendering to upstream.
	r.add(tb, figure{
		Name: "render, cold", Fleet: size(*large, largeMachines), Ours: cold, Upstream: &bound, Against: "the same code, on all cores",
	})

	renderer := render.New()
	set, _ := renderedNext(tb, renderer, nil, revision)

	unchanged := least(5, func() measure {
		next := repository.next(tb, f.Files)

		return taken(func() { set, _ = renderedNext(tb, renderer, set, next) })
	})
	r.add(tb, figure{
		Name: "render, unchanged revision", Fleet: size(*large, largeMachines), Ours: unchanged, Upstream: &theirs,
		Goal: "under 50 ms", Met: unchanged.Wall.Milliseconds() < 50,
	})

	edit := 0
	one := least(5, func() measure {
		edit++
		next := repository.next(tb, f.With(0, edit).Files)

		return taken(func() { set, _ = renderedNext(tb, renderer, set, next) })
	})
	r.add(tb, figure{Name: "render, one template changed", Fleet: size(*large, largeMachines), Ours: one, Upstream: &theirs})
}
