package sync

import (
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// defaultSettle is the default of [Config].HealthSettle.
const defaultSettle = 5 * time.Second

// patience is how many times as long as usual nothing may move where Omni may still have
// something to say.
const patience = 6

// observe takes a look at the health of a target. Bad news counts at once; good news does
// when nothing has moved for settle, since Omni's readiness flaps. It returns how long that
// still takes; 0 if nothing but a change in Omni makes a difference.
func (b *board) observe(key Key, c checkup, settle time.Duration) (left time.Duration) {
	b.update(key, func(r *record) {
		r.follow(c)

		if r.awaits != 0 && c.health == Healthy {
			c = unsure("Omni has yet to take in the changed configuration")
		}

		if c.patient {
			settle *= patience
		}

		left = settle - time.Since(r.movedAt)

		switch {
		case c.health == Healthy && r.Health == Healthy && r.AtRest: // what moves is nothing that was written
			r.HealthReason, left = "", 0
		case c.rest == "" && c.health != "":
			r.Health, r.HealthReason, r.AtRest, left = c.health, c.why, false, 0
		case left <= 0 || c.health == Missing || c.health == "":
			r.Health, r.HealthReason, r.AtRest, left = c.rest, c.why, true, 0

			if r.Health == Healthy {
				r.HealthReason = ""
			}
		case c.health == Healthy:
			r.Health, r.HealthReason, r.AtRest = Progressing, "ready; confirming that it stays ready", false
		default:
			r.Health, r.HealthReason, r.AtRest = c.health, c.why, false
		}
	})

	return left
}

// follow notes when something moved since the last look.
func (r *record) follow(c checkup) {
	first, now := r.movedAt.IsZero(), time.Now()

	switch {
	case first && !c.updated.IsZero() && c.updated.Before(now):
		r.movedAt = c.updated // Omni knows since when it is so: a daemon that starts need not wait
	case first, r.seen.trace != c.trace, r.seen.health != c.health, r.seen.rest != c.rest, r.seen.patient != c.patient:
		r.movedAt = now
	}

	if r.awaits != c.config {
		r.awaits = 0
	}

	r.seen = c
}

// acts notes that something was written that Omni has to act on: whatever its statuses say,
// they said it before. config is what a changed configuration has yet to change; 0 if it
// need not show.
func (b *board) acts(key Key, config uint64) {
	b.update(key, func(r *record) {
		r.movedAt, r.AtRest = time.Now(), false

		if config != 0 {
			r.awaits = config
		}

		if r.Health == Healthy {
			r.Health, r.HealthReason = Progressing, "Omni has yet to take in the change"
		}
	})
}

// Over reports whether nothing more happens with a target by itself: omni-syncd has nothing
// left to do, and Omni is done with what was written. If the target is not Synced, there is
// nothing to wait for in Omni.
func (t *TargetStatus) Over() bool { return t.Settled && (t.AtRest || t.Sync != Synced) }

// acting is a write that may have Omni act on clusters.
type acting struct {
	keys    []Key
	configs []uint64 // checkup.config of each, before the write; 0 if the write need not show in it
}

// acting says, before a write, which clusters Omni will act on because of it.
func (e *Engine) acting(t *target, change *diff.Change) acting {
	var a acting

	if !acts(change) {
		return a
	}

	for _, key := range e.reached(t, change) {
		config := uint64(0)

		if configures(change) {
			if v := e.vitals(key.Target); v.showsConfig() {
				config = v.config()
			}
		}

		a.keys, a.configs = append(a.keys, key), append(a.configs, config)
	}

	return a
}

// done notes that the write came back.
func (a acting) done(b *board) {
	for i, key := range a.keys {
		b.acts(key, a.configs[i])
	}
}

// reached returns the clusters of this daemon that a write is about.
func (e *Engine) reached(t *target, change *diff.Change) []Key {
	if t.Target != "" {
		return []Key{t.Key}
	}

	var keys []Key

	for _, r := range []resource.Resource{change.Old, change.New} {
		if r == nil {
			continue
		}

		for _, to := range e.reaches(r) {
			for _, src := range e.sources.all() {
				if key := (Key{src.Name, to.cluster}); e.board.has(key) && !slices.Contains(keys, key) {
					keys = append(keys, key)
				}
			}
		}
	}

	return keys
}

// acts reports whether a write has Omni act at all. Marks, and labels and annotations that
// mean nothing to Omni, move none of its statuses.
func acts(change *diff.Change) bool {
	switch change.Action {
	case diff.Create, diff.Destroy:
		return true
	case diff.Update:
		return slices.ContainsFunc(change.Fields, func(f diff.Field) bool {
			return strings.HasPrefix(f.Path, "spec") || strings.Contains(f.Path, "["+omni.SystemLabelPrefix)
		})
	default:
		return false
	}
}

// configures reports whether a write changes what machines are configured with.
func configures(change *diff.Change) bool {
	switch change.Metadata().Type() {
	case omni.ConfigPatchType, omni.ExtensionsConfigurationType, omni.KernelArgsType:
		return true
	default:
		return false
	}
}
