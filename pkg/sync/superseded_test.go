package sync

import (
	"context"
	"errors"
	"github.com/cosi-project/runtime/pkg/resource"
	"testing"
	"time"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

type idle struct{}

// Watch implements Source.
func (idle) Watch(ctx context.Context, _ func(source.Revision, error)) error {
	<-ctx.Done()

	return nil
}

// A revision that changes nothing for a target came while a pass over it was under way. The pass wrote its own, older
// revision over it, and nothing brought the target back.
func TestNewerWins_InTheStatus(t *testing.T) {
	e, key := idleEngine(), Key{"s", "a"}
	src, targets := e.sources.get("s"), []*render.Target{{Name: "a", Digest: "1"}}

	accept := func(revision string) {
		e.accept(src, source.Revision{ID: revision}, &reading{set: &template.Set{}, targets: targets})
	}
	pass := func(meanwhile func()) {
		next, _ := e.queue.Get()
		e.process(t.Context(), next, func(seen *target) error {
			meanwhile()
			e.board.planned(seen, &diff.Plan{})

			return nil
		})
		e.queue.Done(next)
	}

	accept("1")
	pass(func() {})
	e.queue.Add(key) // something changed in Omni
	pass(func() { accept("2") })

	if e.queue.Len() == 0 {
		t.Fatalf("nothing is queued, and the status is %+v", e.board.get(key).TargetStatus)
	}

	pass(func() {})

	if r := e.board.get(key); r.Revision != "2" || r.synced != "2" || !r.Settled || e.queue.Len() != 0 {
		t.Errorf("%d are queued, and the status is %+v", e.queue.Len(), r.TargetStatus)
	}
}

// Newer wins: a plan is not applied if a newer revision or configuration came since it
// was made, however short the time between the look at the target and its first write.
func TestNewerWins_BeforeTheFirstWrite(t *testing.T) {
	for name, happens := range map[string]func(*Engine){
		"a newer revision": func(e *Engine) {
			e.accept(e.sources.get("s"), source.Revision{ID: "new"}, &reading{set: &template.Set{}})
		},
		"a newer configuration": func(e *Engine) {
			e.Reconfigure([]SourceConfig{{Name: "s", Source: idle{}, Policy: Policy{Suspended: true}}})
		},
		"the source was taken out": func(e *Engine) { e.Reconfigure(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			// Without a State a write would be a nil dereference.
			e := New(Config{Sources: []SourceConfig{{Name: "s", Source: idle{}}}, Snapshot: omni.NewSnapshot(omni.SnapshotConfig{Relist: time.Hour, Tag: func(resource.Resource) string { return "" }})})
			old := []*render.Target{{Name: "a", Digest: "1"}}
			e.accept(e.sources.get("s"), source.Revision{ID: "old"}, &reading{set: &template.Set{}, targets: old})

			seen := e.lookup(Key{"s", "a"})
			plan := &diff.Plan{Target: "a", Removed: true, Changes: []diff.Change{{Action: diff.Destroy, Old: omnires.NewCluster("a")}}}

			if e.superseded(seen) {
				t.Fatal("superseded by nothing")
			}

			happens(e)

			if err := e.apply(t.Context(), seen, plan); !errors.Is(err, errAgain) {
				t.Errorf("got %v, want to plan again", err)
			}
		})
	}
}
