package sync_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// The model says which writes are allowed. It shares no code with the engine, not even the names of the annotations.

// thing names a resource.
type thing struct{ typ, id string }

func thingOf(r resource.Resource) thing { return thing{r.Metadata().Type(), r.Metadata().ID()} }

func (t thing) metadata() *resource.Metadata {
	md := resource.NewMetadata(resources.DefaultNamespace, t.typ, t.id, resource.VersionUndefined)

	return &md
}

func (i item) thing() thing {
	return thing{map[string]string{"cluster": omnires.ClusterType, "class": omnires.MachineClassType, "patch": omnires.ConfigPatchType}[i.kind], i.name}
}

// confirmName is what `omni-syncd confirm` calls it.
func (t thing) confirmName() string {
	return map[string]string{omnires.MachineClassType: "MachineClass/", omnires.ConfigPatchType: "ConfigPatch/"}[t.typ] + t.id
}

func note(r resource.Resource, key string) string {
	value, _ := r.Metadata().Annotations().Get(key)

	return value
}

func noted(r resource.Resource, key string) bool {
	_, ok := r.Metadata().Annotations().Get(key)

	return ok
}

// spot is where something is read from.
type spot struct {
	Repository, Ref, Path string
	Include, Exclude      []string
}

func (s *reads) spot() spot {
	repository := s.from.repository
	if s.Origin != "" {
		repository = s.Origin
	}

	return spot{repository, s.from.ref, s.Scope.Root, s.Scope.Include, s.Scope.Exclude}
}

func (s spot) same(o spot) bool {
	return s.Repository != "" && s.Repository == o.Repository && (s.Ref == o.Ref || s.Ref == "" || o.Ref == "") && s.Path == o.Path &&
		slices.Equal(s.Include, o.Include) && slices.Equal(s.Exclude, o.Exclude)
}

func cameFrom(r resource.Resource) (s spot) {
	_ = json.Unmarshal([]byte(note(r, "omni-syncd/origin")), &s)

	return s
}

// isRootThing reports whether it is a cluster or fleet resource.
func isRootThing(r resource.Resource) bool {
	return r.Metadata().Type() == omnires.ClusterType || noted(r, "omni-syncd/fleet")
}

func (s *server) source(name string) *reads {
	for _, src := range s.sources {
		if src.Name == name {
			return src
		}
	}

	return nil
}

// describes reports whether the revision in force of a source describes something, if only in a broken file.
func (s *reads) describes(what thing) bool {
	for file, i := range s.from.in {
		if s.covers(file) && !i.empty && i.thing() == what {
			return true
		}
	}

	return false
}

// isWhole reports whether all of the revision in force could be read, and whether it describes anything.
func (s *reads) isWhole() (whole, any bool) {
	whole = !s.from.moving

	for file, i := range s.from.in {
		if s.covers(file) {
			whole = whole && !i.broken
			any = any || !i.broken && !i.empty
		}
	}

	return whole, any
}

// clusterIn returns the cluster that a resource is part of; "" if none.
func clusterIn(r resource.Resource) string {
	if r.Metadata().Type() == omnires.ClusterType {
		return r.Metadata().ID()
	}

	name, _ := r.Metadata().Labels().Get("omni.sidero.dev/cluster")

	return name
}

func (w *world) locked(cluster string) bool {
	r := w.get(thing{omnires.ClusterType, cluster})

	return r != nil && noted(r, omnires.ClusterLocked)
}

// suspended reports whether somebody asked that a cluster or fleet resource be left alone.
func (s *server) suspended(src *reads, r resource.Resource) bool {
	for _, each := range s.kept {
		target := clusterIn(r)
		if each.Target == nil && each.Source == src.Name || each.Target != nil && *each.Target != "" && *each.Target == target ||
			each.Target != nil && *each.Target == "" && each.Source == src.Name && r.Metadata().Type() != omnires.ClusterType {
			return true
		}
	}

	return false
}

// forbids says why a cluster or fleet resource must not be destroyed at this moment; "" if it may.
func (s *server) forbids(r resource.Resource, confirmed bool) string {
	what, src := thingOf(r), s.source(note(r, "omni-syncd/source"))
	if src == nil {
		return "it carries the mark of no source of this daemon"
	}

	for _, other := range s.sources {
		switch {
		case other.describes(what):
			return "the source " + other.Name + " describes it"
		case other.from.down:
			return "the source " + other.Name + " cannot be read"
		}
	}

	whole, some := src.isWhole()
	deletion := note(r, "omni-syncd/deletion")

	switch {
	case !whole:
		return "the revision is not whole"
	case !some && !confirmed:
		return "the revision holds nothing"
	case s.w.locked(clusterIn(r)):
		return "its cluster is locked"
	case s.suspended(src, r), src.Policy.Suspended, what.typ == omnires.ClusterType && note(r, "omni-syncd/suspend") == "true":
		return "it is suspended"
	case src.Policy.Protected, deletion != "" && deletion != "allowed" && deletion != "orphan":
		return "it is protected"
	case s.paused:
		return "deletions are paused"
	case !s.lead.leads:
		return "this replica does not lead"
	case what.typ == omnires.ClusterType && len(src.Allow.Clusters) > 0 && !strings.HasPrefix(what.id, strings.TrimSuffix(src.Allow.Clusters[0], "*")):
		return "the source may not have it"
	case confirmed:
		return ""
	case !src.Prune:
		return "prune is off"
	case !cameFrom(r).same(src.spot()):
		return "it came from another place"
	default:
		return ""
	}
}

// observe takes note of what the world looks like now: what happens between two looks is one move of the test.
func (w *world) observe() {
	w.mu.Lock()
	defer w.mu.Unlock()

	for _, typ := range []string{omnires.ClusterType, omnires.MachineClassType, omnires.ConfigPatchType} {
		list, err := w.state.List(context.Background(), thing{typ, ""}.metadata())
		if err != nil {
			w.t.Error(err)

			return
		}

		for _, r := range list.Items {
			if isRootThing(r) {
				w.look(r)
			}
		}
	}

	for _, s := range w.servers {
		for what := range s.confirmed {
			if w.get(what) == nil {
				delete(s.confirmed, what)
			}
		}
	}
}

func (w *world) look(r resource.Resource) {
	what := thingOf(r)

	for _, s := range w.servers {
		src := s.source(note(r, "omni-syncd/source"))
		if src != nil && src.describes(what) || !noted(r, "omni-syncd/confirmed") {
			delete(s.confirmed, what)
		}

		if _, ok := s.ready[what]; s.forbids(r, false) != "" {
			delete(s.ready, what)
		} else if !ok && s.ready != nil {
			s.ready[what] = time.Now()
		}
	}
}

// interrupt has every wait of a daemon begin again.
func (s *server) interrupt() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()

	clear(s.ready)
}
