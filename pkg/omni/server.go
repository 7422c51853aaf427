package omni

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
)

// The releases that `make e2e` was run against, on real servers, from the oldest, which is the first that is supported, to
// the newest.
const (
	OldestTested = "1.9"
	NewestTested = "1.10"
)

// Tested is the range of releases that this program was tested with, for people.
func Tested() string { return OldestTested + " to " + NewestTested }

// ServerKind is the kind that tells the server's version. Every service account may read it.
var ServerKind = Kind{Namespace: resources.EphemeralNamespace, Type: system.SysVersionType}

// Server is the version of an Omni, as it tells it; "" if that is not known. Omni sets it when it starts, so that a new one
// is seen with the first watch after a reconnect.
type Server string

// Server returns the version of Omni, which is known as soon as the snapshot is ready, if that holds [ServerKind]. It is the
// last one that was told: while Omni starts, it tells none.
func (s *Snapshot) Server() Server {
	s.mu.RLock()
	defer s.mu.RUnlock()

	return s.server
}

// told returns the version that is held; "" if there is none. The lock is held.
func (s *Snapshot) told() Server {
	r, ok := s.index.get(system.SysVersionType, system.SysVersionID)
	if !ok {
		return ""
	}

	version, ok := r.(*system.SysVersion)
	if !ok || !versionText.MatchString(version.TypedSpec().Value.GetBackendVersion()) {
		return ""
	}

	return Server(version.TypedSpec().Value.GetBackendVersion())
}

// versionText matches what is shown as a version, and made a label of a metric: the server may be hostile.
var versionText = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}$`)

// Known reports whether the version can be compared with others. That of a development build may not.
func (s Server) Known() bool {
	_, ok := s.parse()

	return ok
}

// parse reads the version. A number alone is none: it may be the hash of a commit.
func (s Server) parse() (semver.Version, bool) {
	version, err := semver.ParseTolerant(string(s))

	return version, err == nil && strings.Contains(string(s), ".")
}

// AtLeast reports whether a server is of a minor release, like "1.10", or newer. A pre-release counts as what it leads to. A
// version that cannot be read, that of a development build, is at least everything: it is taken for the newest.
func (s Server) AtLeast(minor string) bool {
	have, ok := s.parse()
	if !ok {
		return true
	}

	want, err := semver.ParseTolerant(minor)
	if err != nil {
		panic("not a release: " + minor)
	}

	have.Pre, have.Patch = nil, want.Patch

	return have.GE(want)
}

// Has reports whether a server is known to have what came with a minor release. One whose version cannot be read is not known
// to have anything that its predecessors lack.
func (s Server) Has(since string) bool { return since == "" || s.Known() && s.AtLeast(since) }

// Untested says that a server is of a newer release than any that this program was tried with, for people; "" if it is not.
func (s Server) Untested() string {
	newest := semver.MustParse(NewestTested + ".0")
	newest.Minor++

	if !s.AtLeast(newest.String()) {
		return ""
	}

	return fmt.Sprintf("Omni is %s, and this omni-syncd was tested with %s", s, Tested())
}

// Outdated says that a server is older than what is supported, for people; "" if it is not.
func (s Server) Outdated() string {
	if s.AtLeast(OldestTested) {
		return ""
	}

	return fmt.Sprintf("Omni is %s, and omni-syncd needs %s or newer", s, OldestTested)
}

func (s Server) String() string {
	if s == "" {
		return "of an unknown version"
	}

	return string(s)
}
