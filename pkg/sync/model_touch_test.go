package sync_test

import (
	"context"
	"maps"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// touch changes something in Omni, as people and other tools do.
func (p *play) touch() {
	what := p.thing()

	r := p.get(what)
	if r == nil {
		return
	}

	set := func(key, value string) {
		p.say("somebody sets %s=%s on %s", key, value, what)
		p.edit(what, func(r resource.Resource) { r.Metadata().Annotations().Set(key, value) })
	}
	unset := func(keys ...string) {
		p.say("somebody removes %s from %s", keys, what)
		p.edit(what, func(r resource.Resource) {
			for _, key := range keys {
				r.Metadata().Annotations().Delete(key)
			}
		})
	}

	switch p.IntN(20) {
	case 0, 1, 2:
		set(omnires.ClusterLocked, "")
	case 3, 4, 5:
		unset(omnires.ClusterLocked)
	case 6, 7, 8, 9, 10, 11:
		p.confirm(p.main, what)
	case 12:
		set("omni-syncd/confirmed", "1")
	case 13:
		unset("omni-syncd/leaving", "omni-syncd/kept", "omni-syncd/destroying", "omni-syncd/confirmed")
	case 14:
		unset(pick(p.Rand, []string{"omni-syncd/origin", "omni-syncd/source", "omni-syncd/leaving", "omni-syncd/fleet"}))
	case 15: // as the previous release marked it
		unset("omni-syncd/origin", "omni-syncd/leaving", "omni-syncd/kept")
		set("omni-syncd/path", "p/x.yaml")
	case 16:
		a := pick(p.Rand, [][2]string{{"omni-syncd/deletion", "allowed"}, {"omni-syncd/deletion", "protected"}, {"omni-syncd/suspend", "false"}, {"omni-syncd/handover", "two"}, {"omni-syncd/destroying", `{"id":"1"}`}})
		set(a[0], a[1])
	case 17:
		p.old[what] = r
	default: // a database of another day, without the confirmations
		if old := p.old[what]; old != nil {
			p.say("somebody restores %s: %v", what, notes(old))
			p.edit(what, func(r resource.Resource) {
				for key := range maps.Clone(r.Metadata().Annotations().Raw()) {
					r.Metadata().Annotations().Delete(key)
				}

				for key, value := range old.Metadata().Annotations().Raw() {
					r.Metadata().Annotations().Set(key, value)
				}

				r.Metadata().Annotations().Delete("omni-syncd/confirmed")
			})
		}
	}
}

// confirm confirms what waits for it.
func (w *world) confirm(s *server, what thing) bool {
	r := w.get(what)
	if r == nil {
		return false
	}

	src := s.source(note(r, "omni-syncd/source"))

	w.mu.Lock()

	s.confirming = true
	before, left := s.confirmed[what], src != nil && !src.describes(what)
	s.confirmed[what] = before || left // it may go before Confirm returns

	w.mu.Unlock()

	key, err := s.engine.Confirm(context.Background(), "", what.confirmName(), "somebody")

	w.mu.Lock()
	defer w.mu.Unlock()

	s.confirming = false
	w.say("somebody confirms %s: %v %v", what, key, err)

	if s.ever[what] = s.ever[what] || left; err != nil {
		s.confirmed[what] = before
	}

	return err == nil
}
