package sync_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// story is a world with one daemon, of one source, that holds some clusters.
type story struct {
	*world

	*server

	branch *branch
}

// tell runs a story. Whatever happens in it is judged as in TestG11_RandomScenarios.
func tell(t *testing.T, fn func(s *story)) {
	t.Helper()

	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()

		b := newBranch(main, "main")
		s := &story{world: w, branch: b, server: w.server("main", reading("one", b, ""))}

		for _, name := range []string{"a", "b", "c", "d", "e"} {
			s.add("p/" + name + ".yaml")
		}

		s.push()
		s.start()
		s.has("a", "b", "c", "d", "e")
		fn(s)
	})
}

func (s *story) push() {
	s.branch.push()
	s.settle()
}

func (s *story) add(files ...string) {
	for _, file := range files {
		name := strings.TrimSuffix(file[strings.LastIndexByte(file, '/')+1:], ".yaml")
		s.branch.files[file] = item{kind: "cluster", name: name}
	}
}

// remove takes files out of Git.
func (s *story) remove(files ...string) {
	for _, file := range files {
		delete(s.branch.files, file)
	}

	s.push()
}

func cluster1(name string) thing { return thing{omnires.ClusterType, name} }

// has fails the test unless these clusters are in Omni, and none of the others that the test has.
func (s *story) has(names ...string) {
	s.t.Helper()

	var got []string

	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if r := s.get(cluster1(name)); r != nil && r.Metadata().Phase() == resource.PhaseRunning {
			got = append(got, name)
		}
	}

	if strings.Join(got, " ") != strings.Join(names, " ") {
		s.violated("Omni has %v, want %v", got, names)
	}
}

// is fails the test unless a cluster carries a mark.
func (s *story) is(name, mark string) {
	s.t.Helper()

	if r := s.get(cluster1(name)); r == nil || !noted(r, "omni-syncd/"+mark) {
		s.violated("%s is not %s", name, mark)
	}
}

func (s *story) lock(name string, locked bool) {
	s.edit(cluster1(name), func(r resource.Resource) {
		if r.Metadata().Annotations().Delete(omnires.ClusterLocked); locked {
			r.Metadata().Annotations().Set(omnires.ClusterLocked, "")
		}
	})
	s.settle()
}

// The template leaves, and the cluster goes after its time: the other stories would prove nothing without.
func TestG11_Leaves(t *testing.T) {
	tell(t, func(s *story) {
		s.remove("p/a.yaml")
		s.is("a", "leaving")
		s.pass(5*time.Minute - time.Second)
		s.has("a", "b", "c", "d", "e")
		s.pass(2 * time.Second)
		s.has("b", "c", "d", "e")
	})
}

// A branch that never had a cluster is no deletion of it, and neither is the way back.
func TestG11_BranchChanged(t *testing.T) {
	tell(t, func(s *story) {
		dev := newBranch(main, "dev")
		dev.files["p/a.yaml"] = item{kind: "cluster", name: "a"}
		dev.push()

		s.sources[0].from = dev
		s.reconfigure()
		s.pass(24 * time.Hour)
		s.is("b", "kept")

		s.sources[0].from = s.branch
		s.reconfigure()
		s.pass(24 * time.Hour)
		s.has("a", "b", "c", "d", "e")
	})
}

// What is removed while nobody looks at it is not removed by whoever looks there again.
func TestG11_PathNarrowedAndWidened(t *testing.T) {
	tell(t, func(s *story) {
		s.add("q/a.yaml")
		s.remove("p/a.yaml")
		s.pass(time.Hour)

		s.sources[0].Scope.Root = "p"
		s.reconfigure()
		s.pass(time.Minute)
		s.remove("q/a.yaml", "p/b.yaml") // b is on its way when the place changes
		s.is("a", "kept")

		s.sources[0].Scope.Root = ""
		s.reconfigure()
		s.pass(24 * time.Hour)
		s.has("a", "b", "c", "d", "e")
	})
}

// What left while prune was off stays, for good.
func TestG11_PruneOnAYearLater(t *testing.T) {
	tell(t, func(s *story) {
		s.sources[0].Prune = false
		s.reconfigure()
		s.remove("p/a.yaml")
		s.pass(time.Hour)
		s.is("a", "kept")
		s.start()

		for range 12 {
			s.pass(30 * 24 * time.Hour)
		}

		s.sources[0].Prune = true
		s.reconfigure()
		s.pass(24 * time.Hour)
		s.has("a", "b", "c", "d", "e")

		s.confirm(s.server, cluster1("a"))
		s.pass(time.Minute)
		s.has("b", "c", "d", "e")
	})
}

// Under a lock the old mark stays on the cluster while its template is back. Neither the mark nor its confirmation counts
// when the template leaves again.
func TestG11_OldMarkUnderALock(t *testing.T) {
	for _, restart := range []bool{false, true} {
		tell(t, func(s *story) {
			s.remove("p/a.yaml")
			s.lock("a", true)
			s.confirm(s.server, cluster1("a"))
			s.pass(time.Hour)

			s.add("p/a.yaml")
			s.push()

			if restart {
				s.start()
			}

			s.pass(time.Hour)
			s.remove("p/a.yaml")
			s.lock("a", false)
			s.pass(time.Minute)
			s.has("a", "b", "c", "d", "e")
			s.pass(5 * time.Minute)
			s.has("b", "c", "d", "e")
		})
	}
}

// One after the other, each for its own time: one goes within the hour, and the others wait for somebody.
func TestG11_OneByOne(t *testing.T) {
	tell(t, func(s *story) {
		for _, name := range []string{"a", "b", "c", "d"} {
			s.remove("p/" + name + ".yaml")
			s.pass(6 * time.Minute)
		}

		s.has("b", "c", "d", "e")
		s.pass(48 * time.Hour)
		s.has("b", "c", "d", "e")

		for _, name := range []string{"b", "c", "d"} {
			s.is(name, "kept")
			s.confirm(s.server, cluster1(name))
		}

		s.pass(time.Minute)
		s.has("e")
	})
}

// The budget of all sources together is that of one.
func TestG11_OneInEachSource(t *testing.T) {
	tell(t, func(s *story) {
		branches := make([]*branch, 20)

		for i := range branches {
			branches[i] = newBranch(fmt.Sprintf("github.com/acme/%d", i), "main")
			for _, name := range []string{"x", "y"} {
				branches[i].files[name+".yaml"] = item{kind: "cluster", name: fmt.Sprintf("%s%d", name, i)}
			}

			branches[i].push()
			s.sources = append(s.sources, reading(fmt.Sprintf("source%d", i), branches[i], ""))
		}

		s.reconfigure()
		s.pass(time.Minute)

		for _, b := range branches {
			delete(b.files, "x.yaml")
			b.push()
			s.pass(time.Second)
		}

		s.pass(48 * time.Hour)

		left := 0

		for i := range branches {
			if s.get(cluster1(fmt.Sprintf("x%d", i))) != nil {
				left++
			}
		}

		if left < len(branches)-1 {
			s.violated("%d of %d are left", left, len(branches))
		}
	})
}

// A confirmation is for the departure that it was given for.
func TestG11_ConfirmedBackAndGoneAgain(t *testing.T) {
	tell(t, func(s *story) {
		s.paused = true
		s.start()
		s.remove("p/a.yaml", "p/b.yaml")
		s.confirm(s.server, cluster1("a"))
		s.confirm(s.server, cluster1("b"))
		s.settle()

		s.add("p/a.yaml", "p/b.yaml")
		s.push()
		s.pass(time.Minute)

		s.paused = false
		s.start()
		s.remove("p/a.yaml", "p/b.yaml")
		s.pass(48 * time.Hour)
		s.has("a", "b", "c", "d", "e")
		s.is("a", "kept")
	})
}

// A mark of an earlier process permits nothing: the time begins again.
func TestG11_RestartBeforeTheTeardown(t *testing.T) {
	tell(t, func(s *story) {
		s.refuses["teardown"] = true
		s.remove("p/a.yaml")
		s.pass(6 * time.Minute)
		s.is("a", "destroying")

		s.start()
		s.refuses["teardown"] = false

		s.pass(4 * time.Minute)
		s.has("a", "b", "c", "d", "e")
		s.pass(2 * time.Minute)
		s.has("b", "c", "d", "e")
	})
}

// A database of another day brings back the mark of a deletion that was called off, to the process that wrote it.
func TestG11_RestoredMark(t *testing.T) {
	tell(t, func(s *story) {
		s.refuses["teardown"] = true
		s.remove("p/a.yaml")
		s.pass(6 * time.Minute)
		old := note(s.get(cluster1("a")), "omni-syncd/destroying")

		s.add("p/a.yaml")
		s.push()
		s.pass(time.Minute)
		s.refuses["teardown"] = false
		s.pass(2 * time.Hour)
		s.remove("p/a.yaml")
		s.edit(cluster1("a"), func(r resource.Resource) {
			r.Metadata().Annotations().Delete("omni-syncd/leaving")
			r.Metadata().Annotations().Set("omni-syncd/destroying", old)
		})
		s.pass(4 * time.Minute)
		s.has("a", "b", "c", "d", "e")
		s.pass(2 * time.Minute)
		s.has("b", "c", "d", "e")
	})
}
