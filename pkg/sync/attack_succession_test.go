package sync_test

import (
	"testing"
	"testing/fstest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// An Omni that leaves the last step of a teardown to the client, and a patch that is about to
// move from one cluster to another. The n-th call of verb for it is held back.
func movingPatch(t *testing.T, verb string, n int) (o *daemon.Omni, move func() (applied func()), hit <-chan struct{}, release func()) {
	t.Helper()

	o = daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, noRelist)

	plain := func(name string, n int) *fstest.MapFile { return patched(name, machine(n)) }
	with := func(name string, n int) *fstest.MapFile { return patched(name, machine(n), [2]string{"400-x", "1"}) }

	applied(t, d, d.Feed(fstest.MapFS{"a.yaml": with("a", 1), "b.yaml": plain("b", 2)}))

	arrived, until := make(chan struct{}), make(chan struct{})
	o.Faults().Add(embedded.Fault{
		Match: embedded.Match{Verb: verb, ID: "400-x"}, Skip: n - 1, Times: 1, Until: until, Hit: func() { close(arrived) },
	})

	return o, func() func() {
		id := d.Feed(fstest.MapFS{"a.yaml": plain("a", 1), "b.yaml": with("b", 2)})

		return func() { applied(t, d, id) }
	}, arrived, func() { close(until) }
}

// A target that gave a patch away destroyed the one that the next target had made under the
// same ID: Omni had finished the teardown itself, between the last look and the Destroy.
func TestG1_SuccessorIsNotDestroyed(t *testing.T) {
	md := omnires.NewConfigPatch("400-x").Metadata()

	t.Run("after the look", func(t *testing.T) {
		o, move, hit, release := movingPatch(t, embedded.VerbDestroy, 1)
		before := o.Calls()
		applied := move()
		<-hit

		if err := o.State().Destroy(t.Context(), md); err != nil {
			t.Fatal(err)
		}

		// The other target sees that the ID is free, and must not take it yet.
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end) && o.Calls().Since(before)[embedded.VerbCreate] == 0; {
			time.Sleep(time.Millisecond)
		}

		expect(t, "creates", 0, o.Calls().Since(before)[embedded.VerbCreate])
		release()
		applied()
		expect(t, "creates", 1, o.Calls().Since(before)[embedded.VerbCreate])
	})

	t.Run("before the look", func(t *testing.T) {
		o, move, hit, release := movingPatch(t, embedded.VerbGet, 2) // the first look is before the teardown

		had, err := o.State().Get(t.Context(), md)
		if err != nil {
			t.Fatal(err)
		}

		before := o.Calls()
		applied := move()
		<-hit

		if err = o.State().Destroy(t.Context(), md); err != nil {
			t.Fatal(err)
		}

		successor := had.DeepCopy()
		successor.Metadata().SetVersion(resource.VersionUndefined)
		successor.Metadata().Labels().Set(omnires.LabelCluster, "b")

		if err = o.State().Create(t.Context(), successor); err != nil {
			t.Fatal(err)
		}

		release()
		applied()
		expect(t, "destroyed", 0, o.Calls().Since(before)[embedded.VerbDestroy])
	})
}
