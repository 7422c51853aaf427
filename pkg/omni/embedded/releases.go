package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/protobuf/encoding/protowire"
)

// release is one whose refusals are known: the minor of Omni 1.
type release uint64

const (
	v1_9  release = 9
	v1_10 release = 10
	v1_11 release = 11 // not released: as on Omni's main branch in August 2026
)

// The version that plays each release: the one whose sources were read.
var releases = []struct {
	release release
	version string
}{
	{v1_9, Version},
	{v1_10, "v1.10.4"},
	{v1_11, "v1.11.0-alpha.0"},
}

func (r release) String() string { return fmt.Sprintf("1.%d", uint64(r)) }

// Releases returns the minor releases of Omni whose refusals can be played, like "1.10", the oldest first.
func Releases() []string {
	var all []string
	for _, known := range releases {
		all = append(all, known.release.String())
	}

	return all
}

// VersionOf returns the version for [Config] that plays a minor release. It fails for a release that is not in [Releases], and says
// which are.
func VersionOf(minor string) (string, error) {
	for _, known := range releases {
		if known.release.String() == minor {
			return known.version, nil
		}
	}

	return "", fmt.Errorf("no Omni %q can be played here; there is %s", minor, strings.Join(Releases(), ", "))
}

// releaseOf returns the newest release that is not newer than a version. One that cannot be read is taken for the newest, an older one
// for the oldest.
func releaseOf(version string) release {
	newest := releases[len(releases)-1].release

	parsed, err := semver.ParseTolerant(version)
	if err != nil || parsed.Major > 1 {
		return newest
	}

	return max(v1_9, min(newest, release(parsed.Minor)))
}

// discovery: since 1.10 the public discovery service can be off only in a cluster that began with Talos 1.14, and that uses Omni's own.
func (r rules) discovery(ctx context.Context, old, res *omni.Cluster) error {
	if r.release < v1_10 || !publicDiscoveryOff(res) {
		return nil
	}

	talos := res.TypedSpec().Value.GetTalosVersion()

	if old != nil {
		first, err := lookup[*omni.ClusterConfigVersion](ctx, r.st, res.Metadata().ID())
		if err != nil {
			return err
		}

		if first != nil && first.TypedSpec().Value.GetVersion() != "" {
			talos = first.TypedSpec().Value.GetVersion()
		}
	}

	began, err := semver.ParseTolerant(talos)

	switch {
	case err != nil:
		return err
	case began.Major == 1 && began.Minor < 14:
		return fmt.Errorf("the public discovery service cannot be switched off in a cluster that began with talos %s", talos)
	case !res.TypedSpec().Value.GetFeatures().GetUseEmbeddedDiscoveryService():
		return errors.New("the public discovery service cannot be switched off in a cluster that does not use the embedded one")
	}

	return nil
}

// publicDiscoveryOff finds a flag of 1.10 among the features of a cluster, which the client of v1.9.3 keeps without knowing it.
func publicDiscoveryOff(cluster *omni.Cluster) bool {
	const number = 5

	features := cluster.TypedSpec().Value.GetFeatures()
	if features == nil {
		return false
	}

	for unknown := features.ProtoReflect().GetUnknown(); len(unknown) > 0; {
		found, typ, value, n := consumeFlag(unknown)
		if n < 0 {
			return false
		}

		if found == number && typ == protowire.VarintType && value != 0 {
			return true
		}

		unknown = unknown[n:]
	}

	return false
}

// consumeFlag reads the first field of a message, and its value if that is a number.
func consumeFlag(message []byte) (number protowire.Number, typ protowire.Type, value uint64, length int) {
	number, typ, length = protowire.ConsumeField(message)
	if length > 0 && typ == protowire.VarintType {
		_, _, tag := protowire.ConsumeTag(message)
		value, _ = protowire.ConsumeVarint(message[tag:])
	}

	return number, typ, value, length
}
