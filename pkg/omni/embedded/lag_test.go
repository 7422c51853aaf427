package embedded_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// inBubble runs the controllers alone, on the clock of a synctest bubble, and returns what ends them.
func inBubble(t *testing.T, config embedded.Config) (s *embedded.Server, stop func()) {
	t.Helper()

	s, err := embedded.New(config)
	must(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)

	go func() { done <- s.RunControllers(ctx) }()

	return s, func() {
		cancel()
		must(t, <-done)
	}
}

// readyCluster makes a cluster of one machine and waits until it is ready.
func readyCluster(t *testing.T, s *embedded.Server) {
	t.Helper()

	set := newSet("blue", "blue-control-planes", omni.LabelControlPlaneRole)
	node := omni.NewMachineSetNode(machineA, set)

	for _, r := range []resource.Resource{newCluster("blue"), set, node} {
		must(t, s.State().Create(t.Context(), r))
	}

	time.Sleep(time.Minute)
}

func setStatus(t *testing.T, s *embedded.Server) *specs.MachineSetStatusSpec {
	t.Helper()

	r, err := s.State().Get(t.Context(), omni.NewMachineSetStatus("blue-control-planes").Metadata())
	must(t, err)

	return r.(*omni.MachineSetStatus).TypedSpec().Value //nolint:forcetypeassert // a type has one Go type
}

// A changed configuration shows after its lag, not before, and takes the machines some steps.
func TestLagAndReconfiguring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := inBubble(t, embedded.Config{HealthyMachines: true, Step: time.Second, Lag: func(typ resource.Type) time.Duration {
			if typ == omni.ConfigPatchType {
				return 20 * time.Second
			}

			return 0
		}})
		defer stop()

		readyCluster(t, s)

		before := setStatus(t, s)
		if before.GetPhase() != specs.MachineSetPhase_Running || !before.GetReady() || before.GetConfigHash() == "" {
			t.Fatalf("not ready after a minute: %v", before)
		}

		must(t, s.State().Create(t.Context(), newPatch("blue", "a")))
		time.Sleep(19 * time.Second)

		if now := setStatus(t, s); now.GetPhase() != specs.MachineSetPhase_Running {
			t.Errorf("within the lag: %v", now)
		}

		time.Sleep(2 * time.Second)

		if now := setStatus(t, s); now.GetPhase() != specs.MachineSetPhase_Reconfiguring || now.GetReady() || now.GetConfigHash() != before.GetConfigHash() {
			t.Errorf("after the lag: %v", now)
		}

		time.Sleep(5 * time.Second)

		if now := setStatus(t, s); now.GetPhase() != specs.MachineSetPhase_Running || !now.GetReady() || now.GetConfigHash() == before.GetConfigHash() {
			t.Errorf("after the steps: %v", now)
		}
	})
}

// A machine that is off and has to leave says so, for as long as it holds its cluster.
func TestLeavingMachineTellsThatItIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := inBubble(t, embedded.Config{HealthyMachines: true})
		defer stop()

		readyCluster(t, s)
		must(t, s.SetMachinePower(t.Context(), machineA, false))
		_, err := s.State().Teardown(t.Context(), newCluster("blue").Metadata())
		must(t, err)
		time.Sleep(time.Minute)

		r, err := s.State().Get(t.Context(), omni.NewClusterMachineStatus(machineA).Metadata())
		must(t, err)

		if _, connected := r.Metadata().Labels().Get(omni.MachineStatusLabelConnected); connected ||
			r.(*omni.ClusterMachineStatus).TypedSpec().Value.GetStage() != specs.ClusterMachineStatusSpec_DESTROYING { //nolint:forcetypeassert // as above
			t.Errorf("it says %v", r)
		}

		must(t, s.SetMachinePower(t.Context(), machineA, true))
		time.Sleep(time.Minute)

		if left := list(t, s.State(), omni.ClusterMachineStatusType); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}
