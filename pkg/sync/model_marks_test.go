package sync_test

import (
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
)

// Marks of the previous release: the fleet is taken over with one write for each cluster, and what had left is kept.
func TestG11_PreviousRelease(t *testing.T) {
	tell(t, func(s *story) {
		s.server.stop()

		names := []string{"a", "b", "c", "d", "e"}
		for _, name := range names {
			s.edit(cluster1(name), func(r resource.Resource) {
				r.Metadata().Annotations().Delete("omni-syncd/origin")
				r.Metadata().Annotations().Set("omni-syncd/path", "p/"+name+".yaml")
			})
		}

		delete(s.branch.files, "p/a.yaml")
		s.branch.push()

		before := s.writes
		s.start()
		s.pass(48 * time.Hour)
		s.has(names...)
		s.is("a", "kept")

		if n := s.writes - before; n > len(names) {
			s.violated("%d writes for %d clusters", n, len(names))
		}

		// From now on it is as any other.
		s.remove("p/b.yaml")
		s.pass(6 * time.Minute)
		s.has("a", "c", "d", "e")
	})
}

// The previous release runs beside this one and takes off what it does not know, again and again.
func TestG11_SomebodyTakesTheMarksOff(t *testing.T) {
	tell(t, func(s *story) {
		s.remove("p/a.yaml")

		const hours = 24

		before := s.writes

		for range hours * 60 {
			for _, name := range []string{"a", "b"} {
				s.edit(cluster1(name), func(r resource.Resource) {
					for _, mark := range []string{"origin", "leaving", "kept", "destroying"} {
						r.Metadata().Annotations().Delete("omni-syncd/" + mark)
					}
				})
			}

			s.pass(time.Minute)
		}

		s.has("a", "b", "c", "d", "e")

		if perHour := (s.writes - before) / hours; perHour > 10 {
			s.violated("%d writes per hour", perHour)
		}
	})
}

// What a repository is known by has no scheme, user or suffix, so the same one by another URL is the same place: see
// TestIdentity. Here it is one after the origin says so.
func TestG11_OriginIsSaid(t *testing.T) {
	tell(t, func(s *story) {
		moved := newBranch("git.example.com/fleet", "main")
		moved.files = s.branch.files
		delete(moved.files, "p/a.yaml")
		moved.push()

		s.sources[0].from = moved
		s.reconfigure()
		s.pass(24 * time.Hour)
		s.has("a", "b", "c", "d", "e")

		s.sources[0].Origin = main
		s.reconfigure()
		s.pass(6 * time.Minute)
		s.has("b", "c", "d", "e")
	})
}
