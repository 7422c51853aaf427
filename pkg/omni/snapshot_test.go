package omni

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestSnapshotFollows(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		if !b.snapshot.Ready() || b.snapshot.Err() != nil || b.snapshot.WaitReady(b.Context()) != nil {
			b.Fatalf("not ready: %v", b.snapshot.Err())
		}

		if told := b.take(); told != nil {
			b.Errorf("the first bootstrap was told one by one: %v", told)
		}

		if !slices.Equal(b.readiness, []bool{true}) {
			b.Errorf("readiness was told as %v", b.readiness)
		}

		b.same()
		b.change("p", "y")
		b.create(newPatch("q", "b", "x"))
		b.create(newCluster("b"))
		b.destroy(newNode("m1", "a"))
		b.same()

		if got, want := b.take(), []string{"Clusters/b@b", "ConfigPatches/p@a", "ConfigPatches/q@b", "MachineSetNodes/m1@a"}; !slices.Equal(got, want) {
			b.Errorf("told %v, want %v", got, want)
		}

		if bootstraps, resumes := b.watches(); bootstraps != len(labKinds) || resumes != 0 {
			b.Errorf("%d bootstraps and %d resumes", bootstraps, resumes)
		}

		// Nothing changes: nothing is asked for until the slow timer.
		b.pass(7 * time.Minute)

		if bootstraps, resumes := b.watches(); bootstraps+resumes != 0 {
			b.Errorf("%d bootstraps and %d resumes with nothing to do", bootstraps, resumes)
		}

		b.pass(6 * time.Minute)

		if bootstraps, resumes := b.watches(); bootstraps != len(labKinds) || resumes != 0 {
			b.Errorf("%d bootstraps and %d resumes by the slow timer", bootstraps, resumes)
		}

		b.same()

		if told := b.take(); told != nil || len(b.readiness) != 1 {
			b.Errorf("reading it all again told %v, readiness %v", told, b.readiness)
		}
	})
}

func TestSnapshotReadiness(t *testing.T) {
	inBubble(t, SnapshotConfig{StaleAfter: time.Minute}, func(b *bench) {
		b.set(func() { b.refuse = errAway })
		b.breakStreams(errAway)

		b.pass(59 * time.Second)

		if !b.snapshot.Ready() || b.snapshot.Age() != 59*time.Second {
			b.Errorf("after 59 s: ready %v, age %v, %v", b.snapshot.Ready(), b.snapshot.Age(), b.snapshot.Err())
		}

		b.pass(time.Second)

		if b.snapshot.Ready() || !slices.Equal(b.readiness, []bool{true, true, false}) { // the second: it is away
			b.Errorf("after a minute: ready %v, told %v", b.snapshot.Ready(), b.readiness)
		}

		err := b.snapshot.Err()
		if want := "waiting for Clusters.omni.sidero.dev (and 3 more): connection refused"; err == nil || err.Error() != want || !Transient(err) {
			b.Errorf("the error is %v, want %q", err, want)
		}

		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()

		if err := b.snapshot.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
			b.Errorf("waiting ended with %v", err)
		}

		b.watches()
		b.set(func() { b.refuse = nil })

		if err := b.snapshot.WaitReady(b.Context()); err != nil {
			b.Error(err)
		}

		synctest.Wait()

		if bootstraps, resumes := b.watches(); bootstraps != len(labKinds) || resumes != 0 {
			b.Errorf("%d bootstraps and %d resumes after it was stale", bootstraps, resumes)
		}

		if !slices.Equal(b.readiness, []bool{true, true, false, true}) || b.snapshot.Age() != 0 {
			b.Errorf("told %v, age %v", b.readiness, b.snapshot.Age())
		}

		b.same()
	})
}

func TestSnapshotRefused(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		for code, want := range map[codes.Code]string{
			codes.PermissionDenied: "waiting for Clusters.omni.sidero.dev (and 3 more): no; the service account needs at least the role Reader, for all clusters",
			codes.Unauthenticated:  "waiting for Clusters.omni.sidero.dev (and 3 more): no; the service account key is unknown to this Omni, has expired or was revoked, or the clock of this machine is wrong",
		} {
			b.set(func() { b.refuse = status.Error(code, "no") })
			b.breakStreams(errAway)
			b.watches()
			b.pass(time.Minute)

			if bootstraps, resumes := b.watches(); bootstraps+resumes > 6*len(labKinds) {
				b.Errorf("%d attempts in the first minute of refusals", bootstraps+resumes)
			}

			b.pass(5 * time.Minute)

			// Waiting does not help, so it is not waited.
			if err := b.snapshot.WaitReady(b.Context()); err == nil || err.Error() != want || !Denied(err) {
				b.Errorf("the error is %v, want %q", err, want)
			}

			b.watches()
			b.pass(time.Minute)

			if bootstraps, resumes := b.watches(); resumes != 0 || bootstraps < 2*len(labKinds) || bootstraps > 5*len(labKinds) {
				b.Errorf("%d bootstraps and %d resumes in a minute of refusals", bootstraps, resumes)
			}

			b.set(func() { b.refuse = nil })
			b.pass(maxPause)
			b.same()
		}
	})
}

// TestSnapshotRefusedFromTheStart waits for a snapshot that Omni refuses: it must not wait for ever.
func TestSnapshotRefusedFromTheStart(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		l.refuse = status.Error(codes.PermissionDenied, "no")
		s := NewSnapshot(SnapshotConfig{State: state.WrapCore(l), Kinds: labKinds})
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)

		go func() { waited <- s.WaitReady(ctx) }()

		synctest.Wait() // it waits already when the refusal comes

		go s.Run(ctx) //nolint:errcheck // tested elsewhere

		if err := <-waited; !Denied(err) {
			t.Errorf("waiting ended with %v", err)
		}

		cancel()
		synctest.Wait()
	})
}

// TestSnapshotKeepsCopies changes what was put in and torn down.
func TestSnapshotKeepsCopies(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		r := newPatch("own", "a", "x")
		if err := b.own.Create(b.Context(), r); err != nil {
			b.Fatal(err)
		}

		b.snapshot.Put(r)
		setData(r, "changed by its owner")

		held, _ := b.snapshot.Get(omni.ConfigPatchType, "own")
		if !EqualSpec(held, newPatch("own", "a", "x")) {
			b.Error("the snapshot shares what was put")
		}

		b.snapshot.TearingDown(held.Metadata())

		if held.Metadata().Phase() != resource.PhaseRunning {
			b.Error("a resource that was handed out has changed")
		}
	})
}

// TestSnapshotPauses counts how often a server that is away is asked: at once, then with growing pauses. A server that
// accepts every watch and drops it again is treated no better, and is still verified.
func TestSnapshotPauses(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		b.pass(time.Minute)
		b.watches()
		b.set(func() { b.refuse = errAway })
		b.breakStreams(errAway)
		synctest.Wait()

		if _, resumes := b.watches(); resumes != len(labKinds) {
			b.Errorf("%d resumes at once", resumes)
		}

		b.pass(10 * time.Minute)

		if bootstraps, resumes := b.watches(); bootstraps+resumes < 20*len(labKinds) || bootstraps+resumes > 60*len(labKinds) {
			b.Errorf("%d attempts in 10 minutes", bootstraps+resumes)
		}

		b.set(func() { b.refuse = nil })
		b.pass(time.Minute)
		b.watches()

		for range 600 {
			b.breakStreams(errAway)
			b.pass(100 * time.Millisecond)
		}

		bootstraps, resumes := b.watches()
		if bootstraps+resumes > 25*len(labKinds) {
			b.Errorf("%d bootstraps and %d resumes in a minute of flapping", bootstraps, resumes)
		}

		if bootstraps == 0 {
			b.Error("a flapping watch was never verified")
		}

		b.pass(time.Minute)
		b.same()
	})
}

func TestSnapshotCancelsSubscription(t *testing.T) {
	inBubble(t, SnapshotConfig{}, func(b *bench) {
		calls := 0
		cancel := b.snapshot.Subscribe(func(Change) { calls++ })
		b.change("p", "1")
		synctest.Wait()
		cancel()
		cancel()
		b.change("p", "2")
		synctest.Wait()

		if calls != 1 {
			b.Errorf("%d calls", calls)
		}
	})
}

func TestSnapshotProgressAndStats(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		hold := make(chan struct{})
		l.hold = hold
		s := NewSnapshot(SnapshotConfig{State: state.WrapCore(l), Kinds: labKinds})
		ctx, cancel := context.WithCancel(t.Context())

		if err := l.Create(ctx, newPatch("p", "", "")); err != nil {
			t.Fatal(err)
		}

		go s.Run(ctx) //nolint:errcheck // tested elsewhere

		synctest.Wait()

		if done, total := s.Progress(); done != 0 || total != 4 {
			t.Errorf("%d of %d", done, total)
		}

		if err := s.Err(); err == nil || err.Error() != "waiting for Clusters.omni.sidero.dev (and 3 more): being read" {
			t.Errorf("the error is %v", err)
		}

		close(hold)
		synctest.Wait()

		if done, total := s.Progress(); done != 4 || total != 4 {
			t.Errorf("%d of %d", done, total)
		}

		got := s.Stats()[1]
		if got.Kind != labKinds[1] || got.Resources != 1 || got.Bootstraps != 1 || !got.DownSince.IsZero() || !got.LastEvent.Equal(time.Now()) {
			t.Errorf("%+v", got)
		}

		cancel()
		synctest.Wait()
	})
}

func TestSnapshotRunRefuses(t *testing.T) {
	t.Parallel()

	for name, kinds := range map[string][]Kind{"none": nil, "twice": {labKinds[0], {Namespace: resources.VirtualNamespace, Type: labKinds[0].Type}}} {
		if err := NewSnapshot(SnapshotConfig{State: state.WrapCore(newLab()), Kinds: kinds}).Run(t.Context()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}

	s := NewSnapshot(SnapshotConfig{State: state.WrapCore(newLab()), Kinds: labKinds})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}

	if err := s.Run(ctx); err == nil {
		t.Error("it ran twice")
	}
}
