package sync_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// withWorkers returns a cluster with a control plane and workers; locked ones are locked in
// the template.
func withWorkers(locked map[int]bool, workers ...int) fstest.MapFS {
	list, more := "", ""

	for _, n := range workers {
		list += fmt.Sprintf("  - %s\n", machine(n))

		if locked[n] {
			more += fmt.Sprintf("---\nkind: Machine\nname: %s\nlocked: true\n", machine(n))
		}
	}

	return fstest.MapFS{"a.yaml": text("%s---\nkind: Workers\nmachines:\n%s%s", cluster("a", "1.34.3", machine(1)).Data, list, more)}
}

// A machine that Git locked and then takes out leaves: its lock came from Git and goes with
// it. It once stayed for ever, since Omni removes no locked machine (chaos seed 11).
func TestG8_MachineLockedInGitLeaves(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{})
	d := daemon.Start(t, o, nil)
	d.Apply(t, withWorkers(map[int]bool{3: true}, 2, 3))

	status := d.Apply(t, withWorkers(nil, 2))
	expect(t, "targets", synced("a"), syncs(status))
	expect(t, "machines", []string{machine(1), machine(2)}, live(t, o, omnires.MachineSetNodeType))
}

// A machine that a person locked stays until that person unlocks it, and then leaves
// without another commit. It once waited for the next one (chaos seed 202). F6: and until then half of the commit was in
// force.
func TestG8_MachineLockedByPersonLeavesWhenUnlocked(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{})
	d := daemon.Start(t, o, noRelist)
	d.Apply(t, withWorkers(nil, 2, 3))

	node := omnires.NewMachineSetNode(machine(3), omnires.NewMachineSet("a-workers")).Metadata()
	edit(t, o, node, func(r resource.Resource) { r.Metadata().Annotations().Set(omnires.MachineLocked, "") })

	isLocked := func(r resource.Resource) bool {
		_, locked := r.Metadata().Annotations().Get(omnires.MachineLocked)

		return locked
	}
	for began := time.Now(); !slices.ContainsFunc(d.Evidence(sync.Key{Source: daemon.Source, Target: "a"}).Live, isLocked); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("the lock is not seen")
		}
	}

	status := d.Apply(t, withWorkers(nil, 2, 4))
	if got := message(status, "a"); !strings.Contains(got, "a.yaml:") || !strings.Contains(got, "unlock it in Omni") {
		t.Fatalf("message: %s", got)
	}

	expect(t, "machines", []string{machine(1), machine(2), machine(3)}, live(t, o, omnires.MachineSetNodeType))

	edit(t, o, node, func(r resource.Resource) { r.Metadata().Annotations().Delete(omnires.MachineLocked) })
	within(t, d, "the unlocked machine leaves", func(s sync.Status) bool { return s.Settled() && s.Synced() })
	expect(t, "machines", []string{machine(1), machine(2), machine(4)}, live(t, o, omnires.MachineSetNodeType))
}

// G8: a commit that locked a machine which a person had locked, and a second one that took that back, unlocked it: the
// lock was taken for Git's.
func TestG8_LockOfAPersonIsNotGits(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{})
	d := daemon.Start(t, o, noRelist)
	d.Apply(t, withWorkers(nil, 2, 3))

	node := omnires.NewMachineSetNode(machine(3), omnires.NewMachineSet("a-workers")).Metadata()
	edit(t, o, node, func(r resource.Resource) { r.Metadata().Annotations().Set(omnires.MachineLocked, "") })

	d.Apply(t, withWorkers(map[int]bool{3: true}, 2, 3))
	d.Apply(t, withWorkers(nil, 2, 3))

	r, err := o.State().Get(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}

	if _, locked := r.Metadata().Annotations().Get(omnires.MachineLocked); !locked {
		t.Error("a person's lock was taken away")
	}
}
