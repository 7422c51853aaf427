package embedded_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

func TestVersionOf(t *testing.T) {
	if version, err := embedded.VersionOf("1.9"); err != nil || version != embedded.Version || embedded.Releases()[0] != "1.9" {
		t.Errorf("%q, %v, of %v", version, err, embedded.Releases())
	}

	for _, unknown := range []string{"", "1.8", "v1.10", "1.10.4", "2.10"} {
		if version, err := embedded.VersionOf(unknown); err == nil || !strings.Contains(err.Error(), "1.9, 1.10, 1.11") {
			t.Errorf("%q: %q, %v", unknown, version, err)
		}
	}
}

// F7: another version changed nothing but the number.
func TestRefusalsOfReleases(t *testing.T) {
	patch := func(id, text string) *omni.ConfigPatch {
		res := newPatch("blue", id)
		must(t, res.TypedSpec().Value.SetUncompressedData([]byte(text)))

		return res
	}

	join := func(cluster, talos, machine string) func(context.Context, state.State) error {
		return func(ctx context.Context, st state.State) error {
			res := newCluster(cluster)
			res.TypedSpec().Value.TalosVersion = talos
			set := newSet(cluster, cluster+"-workers", omni.LabelWorkerRole)

			if err := st.Create(ctx, res); err != nil {
				return err
			}

			if err := st.Create(ctx, set); err != nil {
				return err
			}

			return st.Create(ctx, omni.NewMachineSetNode(machine, set))
		}
	}

	rows := []struct {
		name    string
		call    func(context.Context, state.State) error
		refused string // by which releases, of "1.9 1.10 1.11"
	}{
		{"patch", createOf(patch("plain", "machine:\n  kubelet: {}\n")), ""},
		{"service accounts' key", createOf(patch("key", "cluster:\n  serviceAccount:\n    key: LS0tCg==\n")), "1.10 1.11"},
		{"authority in an update", updateOf(newPatch("blue", "blue-patch"), func(p *omni.ConfigPatch) {
			must(t, p.TypedSpec().Value.SetUncompressedData([]byte("cluster:\n  ca:\n    key: LS0tCg==\n")))
		}), "1.10 1.11"},
		{"token in the first document", createOf(patch("first", "machine:\n  token: abc\n")), "1.9 1.10 1.11"},
		{"token in the second document", createOf(patch("second", "apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: a\n---\nmachine:\n  token: abc\n")), "1.10 1.11"},
		{"a document of Omni's", createOf(patch("document", "apiVersion: v1alpha1\nkind: KubeEtcdEncryptionConfig\nconfig: {}\n")), "1.10 1.11"},
		{"disk", createOf(patch("disk", "machine:\n  install:\n    disk: /dev/sda\n")), "1.11"},

		{"machine without an installation, of the same minor", join("same", "1.13.5", "iso-13"), ""},
		{"machine without an installation, of an older Talos", join("next", "1.14.0", "iso-13"), "1.9"},
		{"machine without an installation, of a much older Talos", join("old", "1.13.0", "iso-12"), "1.9 1.10 1.11"},
		{"installed machine of an older Talos", join("disk", "1.13.0", "installed"), ""},
	}

	for _, release := range embedded.Releases() {
		t.Run(release, func(t *testing.T) {
			version, err := embedded.VersionOf(release)
			must(t, err)

			s, st := fleet(t, embedded.Config{Version: version})

			next := omni.NewTalosVersion("1.14.0")
			next.TypedSpec().Value.CompatibleKubernetesVersions = []string{"1.34.0"}
			must(t, s.State().Create(testContext(t), next))
			must(t, s.AddMachine(testContext(t), embedded.Machine{ID: "iso-13", TalosVersion: "1.13.0", Uninstalled: true}))
			must(t, s.AddMachine(testContext(t), embedded.Machine{ID: "iso-12", TalosVersion: "1.12.0", Uninstalled: true}))
			must(t, s.AddMachine(testContext(t), embedded.Machine{ID: "installed", TalosVersion: "1.12.0"}))

			for _, row := range rows {
				t.Run(row.name, func(t *testing.T) {
					want := codes.OK
					if slices.Contains(strings.Fields(row.refused), release) {
						want = codes.InvalidArgument
					}

					// The machines join one cluster after the other.
					_ = st.Destroy(testContext(t), omni.NewMachineSetNode("iso-13", newSet("", "", "")).Metadata())

					wantCode(t, row.call(testContext(t), st), want)
				})
			}
		})
	}
}

// F7: a restored cluster may lose its bootstrapSpec from 1.10 on, once it is bootstrapped.
func TestBootstrapSpecOfReleases(t *testing.T) {
	for _, release := range embedded.Releases() {
		t.Run(release, func(t *testing.T) {
			version, err := embedded.VersionOf(release)
			must(t, err)

			s, st := fleet(t, embedded.Config{Version: version})
			ctx := testContext(t)

			lost := omni.NewClusterUUID("lost")
			lost.Metadata().Labels().Set(omni.LabelClusterUUID, "lost")
			must(t, s.State().Create(ctx, lost))
			must(t, st.Create(ctx, newCluster("restored")))

			controlPlane := newSet("restored", "restored-control-planes", omni.LabelControlPlaneRole)
			controlPlane.TypedSpec().Value.BootstrapSpec = &specs.MachineSetSpec_BootstrapSpec{ClusterUuid: "lost", Snapshot: "x"}
			must(t, st.Create(ctx, controlPlane))

			remove := func() error {
				return update(ctx, st, controlPlane, func(s *omni.MachineSet) { s.TypedSpec().Value.BootstrapSpec = nil })
			}
			wantCode(t, remove(), codes.InvalidArgument)

			status := omni.NewClusterBootstrapStatus("restored")
			status.TypedSpec().Value.Bootstrapped = true
			must(t, s.State().Create(ctx, status))

			want := codes.OK
			if release == "1.9" {
				want = codes.InvalidArgument
			}

			wantCode(t, remove(), want)
		})
	}
}

// F7: a machine is installed by the cluster that it joins, and its labels say so: Omni 1.10 goes by them.
func TestMachineIsInstalled(t *testing.T) {
	s := start(t, embedded.Config{})
	st, ctx, set := operator(t, s), testContext(t), newSet("blue", "blue-workers", omni.LabelWorkerRole)

	must(t, s.AddMachine(ctx, embedded.Machine{ID: "iso", TalosVersion: "1.12.8", Uninstalled: true}))
	must(t, st.Create(ctx, newCluster("blue")))
	must(t, st.Create(ctx, set))
	must(t, st.Create(ctx, omni.NewMachineSetNode("iso", set)))

	_, err := st.WatchFor(ctx, omni.NewMachineStatus("iso").Metadata(), state.WithCondition(func(r resource.Resource) (bool, error) {
		_, installed := r.Metadata().Labels().Get(omni.MachineStatusLabelInstalled)
		version, _ := r.Metadata().Labels().Get(omni.MachineStatusLabelTalosVersion)

		return installed && version == "v1.12.0", nil
	}))
	must(t, err)
}
