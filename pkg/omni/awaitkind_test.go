package omni

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestSnapshotKindSince has an Omni upgraded to the release that brings a kind: it is never asked for the kind before, and
// from the moment the new version is known nothing is planned or written until the kind has been read (G2).
func TestSnapshotKindSince(t *testing.T) {
	kinds := append(slices.Clone(labKinds[:3]), ServerKind, Kind{resources.DefaultNamespace, omni.KernelArgsType, "1.11"})

	inBubble(t, SnapshotConfig{Kinds: kinds}, func(b *bench) {
		held := func() int { return len(b.snapshot.List(omni.KernelArgsType)) }
		expect := func(when string, server Server, ready bool, args int) {
			b.Helper()
			synctest.Wait()

			if got := b.snapshot.Server(); got != server {
				t.Errorf("%s: Omni is %s, want %s", when, got, server)
			}

			if b.snapshot.Ready() != ready || b.snapshot.Current() != ready || (b.snapshot.Err() == nil) != ready {
				t.Errorf("%s: ready %v, current %v, %v, want %v", when, b.snapshot.Ready(), b.snapshot.Current(), b.snapshot.Err(), ready)
			}

			if held() != args {
				t.Errorf("%s: %d held, want %d", when, held(), args)
			}
		}
		expect("without a version", "", true, 0)
		b.create(system.NewSysVersion(system.SysVersionID))
		b.tells("v1.10.4")
		expect("before", "v1.10.4", true, 0)

		if done, total := b.snapshot.Progress(); done != 4 || total != 4 {
			t.Errorf("%d of %d kinds are read, want 4", done, total)
		}

		if opened, resumed := b.watches(); opened != 4 || resumed != 0 {
			t.Errorf("%d watches opened, %d resumed, want one of each kind that there is", opened, resumed)
		}

		hold := make(chan struct{})
		b.set(func() { b.hold = hold })
		b.tells("v1.11.0")
		expect("after the upgrade", "v1.11.0", false, 0)

		close(hold)
		expect("once it is read", "v1.11.0", true, 1)

		b.destroy(system.NewSysVersion(system.SysVersionID))
		expect("while Omni starts", "v1.11.0", true, 1)

		b.create(system.NewSysVersion(system.SysVersionID))
		b.tells("v1.10.4")
		expect("after a way back", "v1.10.4", true, 0)

		b.tells("v1.11.0")
		expect("forwards again", "v1.11.0", true, 1)
	})
}

// TestSnapshotKindSince_Refused: a kind that is refused and then is none any more keeps nothing waiting, and a wait of half a minute for
// the next try ends with the version.
func TestSnapshotKindSince_Refused(t *testing.T) {
	kinds := append(slices.Clone(labKinds[:3]), ServerKind, Kind{resources.DefaultNamespace, omni.KernelArgsType, "1.11"})

	inBubble(t, SnapshotConfig{Kinds: kinds}, func(b *bench) {
		b.create(system.NewSysVersion(system.SysVersionID))
		b.set(func() { b.refuse = status.Error(codes.PermissionDenied, "no access") })
		b.tells("v1.11.0")
		b.pass(8 * time.Second)

		if b.snapshot.Ready() || b.snapshot.Away() == (Away{}) {
			t.Fatalf("ready %v, away %v", b.snapshot.Ready(), b.snapshot.Away())
		}

		b.tells("v1.10.4")
		synctest.Wait()

		if !b.snapshot.Ready() || !b.snapshot.Current() || b.snapshot.Away() != (Away{}) {
			t.Errorf("on 1.10: ready %v, current %v, away %v", b.snapshot.Ready(), b.snapshot.Current(), b.snapshot.Away())
		}

		b.set(func() { b.refuse = nil })
		b.tells("v1.11.0")
		synctest.Wait()

		if !b.snapshot.Ready() || len(b.snapshot.List(omni.KernelArgsType)) != 1 {
			t.Errorf("on 1.11 again: ready %v, %d held", b.snapshot.Ready(), len(b.snapshot.List(omni.KernelArgsType)))
		}
	})
}

// tells makes the server say that it is of a version.
func (b *bench) tells(version string) {
	b.Helper()

	_, err := b.current().UpdateWithConflicts(b.Context(), system.NewSysVersion(system.SysVersionID).Metadata(), func(r resource.Resource) error {
		r.(*system.SysVersion).TypedSpec().Value.BackendVersion = version //nolint:forcetypeassert // it is one

		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
