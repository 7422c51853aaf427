package sync_test

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// judged is the state as a daemon writes to it.
type judged struct {
	state.State

	s *server
}

func (j judged) refused(verb string) error {
	j.s.w.writes++

	if j.s.w.refuses[verb] {
		return status.Error(codes.Unavailable, "no route to Omni")
	}

	return nil
}

func (j judged) Create(ctx context.Context, r resource.Resource, opts ...state.CreateOption) error {
	j.s.w.mu.Lock()
	defer j.s.w.mu.Unlock()

	if err := j.refused("create"); err != nil {
		return err
	}

	j.s.w.say("%s creates %s", j.s.name, thingOf(r))

	src := j.s.source(note(r, "omni-syncd/source"))
	if src == nil || isRootThing(r) && !src.describes(thingOf(r)) || j.s.w.locked(clusterIn(r)) {
		j.s.w.violated("%s creates %s", j.s.name, thingOf(r))
	}

	return j.State.Create(ctx, r, opts...)
}

func (j judged) Update(ctx context.Context, next resource.Resource, opts ...state.UpdateOption) error {
	j.s.w.mu.Lock()
	defer j.s.w.mu.Unlock()

	before := j.s.w.get(thingOf(next))

	// A cluster or fleet resource is torn down by an update to that phase.
	if next.Metadata().Phase() == resource.PhaseTearingDown && before != nil && before.Metadata().Phase() == resource.PhaseRunning {
		if err := j.refused("teardown"); err != nil {
			return err
		}

		if before.Metadata().Version().Equal(next.Metadata().Version()) {
			j.judge(thingOf(next), "tears down")
		}

		return j.State.Update(ctx, next, opts...)
	}

	if err := j.refused("update"); err != nil {
		return err
	}
	if before == nil {
		return j.State.Update(ctx, next, opts...)
	}

	err := j.State.Update(ctx, next, opts...)
	if err != nil {
		return err
	}

	j.s.w.say("%s updates %s: %v → %v", j.s.name, thingOf(next), notes(before), notes(next))

	if why := j.s.wrong(before, next); why != "" && !j.s.confirming {
		j.s.w.violated("%s updates %s: %s", j.s.name, thingOf(next), why)
	}

	if noted(next, "omni-syncd/destroying") && note(next, "omni-syncd/destroying") != note(before, "omni-syncd/destroying") {
		j.s.begins(next)
	}

	return nil
}

func notes(r resource.Resource) (all []string) {
	for key, value := range r.Metadata().Annotations().Raw() {
		if strings.HasPrefix(key, "omni-syncd/") && key != "omni-syncd/applied" || strings.HasSuffix(key, "locked") {
			all = append(all, strings.TrimPrefix(key, "omni-syncd/")+"="+value[:min(len(value), 48)])
		}
	}

	slices.Sort(all)

	return all
}

// wrong says what is wrong with an update; "" if nothing is.
func (s *server) wrong(before, next resource.Resource) string {
	was, is, what := note(before, "omni-syncd/source"), note(next, "omni-syncd/source"), thingOf(next)
	src := s.source(is)
	theirs := cameFrom(before)

	switch {
	case s.w.locked(clusterIn(before)):
		return "its cluster is locked"
	case is == "" && s.source(was) == nil, is != "" && src == nil:
		return "it is another daemon's"
	case !isRootThing(before) && !isRootThing(next):
		return ""
	case is == "" && theirs.Repository != "" && theirs.Repository != s.source(was).spot().Repository:
		return "it loses the marks of another repository"
	case is == "" && note(before, "omni-syncd/deletion") != "orphan" && !noted(before, "omni-syncd/handover"):
		return "it loses its marks"
	case is == "":
		return ""
	case s.suspended(src, before):
		return "it is suspended"
	case was == is && !s.confirmed[what] && theirs.Repository != "" && theirs.Repository != src.spot().Repository:
		return "it is from another repository"
	case was != is && !src.describes(what):
		return "it is marked, and not in Git"
	case was == "" || was == is:
		return ""
	case noted(before, "omni-syncd/destroying"):
		return "it is being destroyed, and taken over"
	case note(before, "omni-syncd/handover") == is:
		return ""
	case !slices.Contains(src.Allow.TakeFrom, was):
		return "it is taken over without consent"
	}

	giver := s.source(was)
	if giver == nil {
		if !noted(before, "omni-syncd/leaving") && !noted(before, "omni-syncd/kept") {
			return "it is taken over from another daemon, and nothing says that it left there"
		}

		return ""
	}

	if whole, _ := giver.isWhole(); giver.describes(what) || !whole || giver.from.down {
		return "it is taken over, and the giver may still have it"
	}

	return ""
}

// begins judges the beginning of a deletion.
func (s *server) begins(r resource.Resource) {
	what := thingOf(r)
	s.begun[what] = true
	src := s.source(note(r, "omni-syncd/source"))

	if src == nil || s.confirmed[what] {
		return
	}

	s.spent = slices.DeleteFunc(s.spent, func(d deletion) bool { return time.Since(d.at) >= time.Hour || d.thing == what && d.source == src.Name })
	s.spent = append(s.spent, deletion{what, src.Name, time.Now()})

	limit := func(src *reads) int {
		if what.typ == omnires.ClusterType {
			return src.MaxDelete
		}

		return src.MaxDeleteResources
	}

	own, all, most := 0, 0, 0

	for _, d := range s.spent {
		if (d.thing.typ == omnires.ClusterType) == (what.typ == omnires.ClusterType) {
			if all++; d.source == src.Name {
				own++
			}
		}
	}

	for _, each := range s.sources {
		most = max(most, limit(each))
	}

	if own > limit(src) || all > most {
		s.w.violated("%s begins to destroy %s: %d of the source and %d of all within an hour", s.name, what, own, all)
	}
}

func (j judged) Teardown(ctx context.Context, ptr resource.Pointer, opts ...state.TeardownOption) (bool, error) {
	j.s.w.mu.Lock()
	defer j.s.w.mu.Unlock()

	if err := j.refused("teardown"); err != nil {
		return false, err
	}

	j.judge(thing{ptr.Type(), ptr.ID()}, "tears down")

	return j.State.Teardown(ctx, ptr, opts...)
}

func (j judged) Destroy(ctx context.Context, ptr resource.Pointer, opts ...state.DestroyOption) error {
	j.s.w.mu.Lock()
	defer j.s.w.mu.Unlock()

	if err := j.refused("teardown"); err != nil {
		return err
	}

	// Omni's Destroy takes an ID and no version. What another daemon makes under it between the last look and the Destroy
	// is hit, which is the window of one round trip that docs/architecture.md tells of.
	what := thing{ptr.Type(), ptr.ID()}
	if r := j.s.w.get(what); r != nil && r.Metadata().Phase() == resource.PhaseRunning && !r.Metadata().Created().Equal(time.Now()) {
		j.judge(what, "destroys")
	}

	return j.State.Destroy(ctx, ptr, opts...)
}

// judge judges a deletion.
func (j judged) judge(what thing, verb string) {
	s, w := j.s, j.s.w

	r := w.get(what)
	if r == nil {
		return
	}

	w.say("%s %s %s", s.name, verb, what)

	if !isRootThing(r) { // it goes along with its cluster
		cluster := w.get(thing{omnires.ClusterType, clusterIn(r)})
		remade := cluster != nil && cluster.Metadata().Created().After(r.Metadata().Created())

		if s.source(note(r, "omni-syncd/source")) == nil || cluster != nil && !remade && cluster.Metadata().Phase() == resource.PhaseRunning {
			w.violated("%s %s %s of a cluster that stays", s.name, verb, what)
		}

		return
	}

	if why := s.forbids(r, s.confirmed[what]); why != "" {
		w.violated("%s %s %s: %s", s.name, verb, what, why)

		return
	}

	if !s.begun[what] {
		w.violated("%s %s %s without having marked it", s.name, verb, what)
	}

	if s.confirmed[what] {
		w.confirmedDestroyed++

		return
	}

	w.destroyed++

	since, ok := s.ready[what]
	if src := s.source(note(r, "omni-syncd/source")); !ok && src.DeleteAfter > 0 || ok && time.Since(since) < src.DeleteAfter {
		w.violated("%s %s %s, which may go since %v only", s.name, verb, what, since)
	}
}
