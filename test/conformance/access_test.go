package conformance

import (
	"context"
	"slices"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/access"
	"github.com/siderolabs/omni/client/pkg/omni/resources/auth"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"

	client "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// TestUnauthenticated signs as the account of OMNI_SERVICE_ACCOUNT_KEY does, with another key.
func TestUnauthenticated(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	known := o.patch("none", "known")
	o.make(known)

	account, err := serviceaccount.Decode(target.key)
	must(t, err)

	_, token := newKey(t, account.Name)
	stranger := dial(t, token)

	check(t, stranger.State(), []row{
		{"get", get(known), unauthenticated, ""},
		{"get of nothing", get(o.patch("none", "x")), unauthenticated, ""},
		{"get of the version", get(system.NewSysVersion(system.SysVersionID)), unauthenticated, ""},
		{"list", list(known), unauthenticated, ""},
		{"watch", watch(known, state.WithBootstrapContents(true)), unauthenticated, ""},
		{"create", create(o.patch("none", "x")), unauthenticated, ""},
		{"update", func(ctx context.Context, st state.State) error { return st.Update(ctx, known) }, unauthenticated, ""},
		{"teardown", teardown(known), unauthenticated, ""},
		{"destroy", destroy(known), unauthenticated, ""},
		{"kubeconfig", func(ctx context.Context, _ state.State) error {
			_, err := stranger.Management().WithCluster(o.id("x")).Kubeconfig(ctx)

			return err
		}, unauthenticated, ""},
		{"talosconfig", func(ctx context.Context, _ state.State) error {
			_, err := stranger.Management().Talosconfig(ctx)

			return err
		}, unauthenticated, ""},
	})

	if err = stranger.Check(testContext(t)); err == nil {
		t.Error("Check accepts a key that Omni does not know")
	}
}

func TestNone(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	known := o.patch("none", "known")
	o.make(known)

	nobody := o.as(roleNone)

	check(t, nobody.State(), []row{
		{"version", get(system.NewSysVersion(system.SysVersionID)), accepted, ""},
		{"versions of Talos", list(omni.NewTalosVersion("")), accepted, ""},
		{"get", get(known), denied, ""},
		{"get of nothing", get(o.patch("none", "x")), denied, ""},
		{"list", list(known), denied, ""},
		{"watch", watch(known, state.WithBootstrapContents(true)), denied, ""},
		{"create", create(o.patch("none", "x")), writeDenied, ""},
	})

	must(t, nobody.Check(testContext(t)))
}

func TestReader(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	cluster, class, known := o.cluster("blue"), o.class("class"), o.patch("none", "known")
	o.make(cluster, class, known)

	reader := o.as(roleReader)

	check(t, reader.State(), []row{
		{"get", get(known), accepted, ""},
		{"get of nothing", get(o.patch("none", "x")), missing, ""},
		{"list", list(known), accepted, ""},
		{"watch", watch(known, state.WithBootstrapContents(true)), accepted, ""},
		{"create", create(o.patch("none", "x")), writeDenied, ""},
		{"create of what exists", create(known), writeDenied, ""},
		{"create of a cluster", create(o.cluster("x")), writeDenied, ""},
		{"create that Omni would refuse", create(omni.NewCluster(o.id("x"))), writeDenied, ""},
		{"update", change(known, touch[*omni.ConfigPatch]), writeDenied, ""},
		{"update of nothing", func(ctx context.Context, st state.State) error { return st.Update(ctx, o.patch("none", "x")) }, writeDenied, ""},
		{"teardown", teardown(class), writeDenied, ""},
		{"teardown of nothing", teardown(o.class("x")), writeDenied, ""},
		{"destroy", destroy(known), writeDenied, ""},
		{"secrets of a cluster", get(omni.NewClusterSecrets(cluster.Metadata().ID())), denied, ""},
		{"access policy", get(auth.NewAccessPolicy()), denied, ""},
		{"create of an infra provider", create(infra.NewProvider(o.id("provider"))), accepted, ""}, // strange, and so in Omni
		{"infra provider torn down", teardown(infra.NewProvider(o.id("provider"))), accepted, ""},
	})
}

func TestOperator(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	cluster := o.cluster("blue")
	workers := o.workers("blue", "workers")
	accept := func(status specs.InfraMachineConfigSpec_AcceptanceStatus) func(*omni.InfraMachineConfig) {
		return func(r *omni.InfraMachineConfig) { r.TypedSpec().Value.AcceptanceStatus = status }
	}
	machine := omni.NewInfraMachineConfig(o.id("m"))
	labels := with(omni.NewMachineLabels(o.id("m")), func(r *omni.MachineLabels) { r.Metadata().Labels().Set("a", "b") })
	media := with(omni.NewInstallationMediaConfig(o.id("media")), func(r *omni.InstallationMediaConfig) {
		r.TypedSpec().Value.Architecture = specs.PlatformConfigSpec_AMD64
		r.TypedSpec().Value.TalosVersion = o.talos
		r.TypedSpec().Value.InstallExtensions = []string{o.extension}
	})
	requests := func(provider string) *omni.MachineRequestSet {
		return with(omni.NewMachineRequestSet(o.id("requests")), func(r *omni.MachineRequestSet) {
			r.TypedSpec().Value.ProviderId, r.TypedSpec().Value.TalosVersion = provider, o.talos
		})
	}

	check(t, o.as(roleOperator).State(), []row{
		{"cluster", create(cluster), accepted, ""},
		{"control plane", create(o.controlPlane("blue")), accepted, ""},
		{"workers", create(workers), accepted, ""},
		{"machine", create(o.node(workers, "m")), accepted, ""},
		{"patch", create(o.patch("blue", "patch")), accepted, ""},
		{"extensions", create(o.extensions("blue", "ext", o.extension)), accepted, ""},
		{"manifests", create(o.manifests("blue", "manifests")), accepted, ""},
		{"class", create(o.class("class")), accepted, ""},
		{"kernel arguments", create(o.kernelArgs("m", "a=b")), accepted, ""},
		{"labels of a machine", create(labels), accepted, ""},
		{"labels of a machine changed", change(labels, touch[*omni.MachineLabels]), accepted, ""},
		{"labels of a machine torn down", teardown(labels), accepted, ""},

		{"infra machine", create(machine), accepted, ""},
		{"infra machine of two lines", create(with(omni.NewInfraMachineConfig(o.id("x")), func(r *omni.InfraMachineConfig) {
			r.TypedSpec().Value.ExtraKernelArgs = "a\nb"
		})), refused, "control character"},
		{"infra machine accepted", change(machine, accept(specs.InfraMachineConfigSpec_ACCEPTED)), accepted, ""},
		{"infra machine rejected after that", change(machine, accept(specs.InfraMachineConfigSpec_REJECTED)), updateRefused, "accepted"},
		{"infra machine torn down", teardown(machine), accepted, ""},

		{"installation media", create(media), accepted, ""},
		{"installation media of no architecture", create(omni.NewInstallationMediaConfig(o.id("x"))), refused, "architecture"},
		{"installation media of an unknown Talos", change(media, func(r *omni.InstallationMediaConfig) { r.TypedSpec().Value.TalosVersion = "1.0.99" }), updateRefused, "1.0.99"},
		{"installation media torn down", teardown(media), accepted, ""},

		{"machine requests of no provider", create(requests("")), refused, "provider"},
		{"machine requests of a provider that is not there", create(requests(o.id("nobody"))), refused, "provider"},
		{"force destroy of no machine", create(omni.NewNodeForceDestroyRequest(o.id("x"))), refused, "cluster machine"},

		{"status of a cluster", create(omni.NewClusterStatus(o.id("x"))), writeDenied, ""},
		{"version of Talos", create(omni.NewTalosVersion(o.id("x"))), writeDenied, ""},
		{"secrets of a cluster", get(omni.NewClusterSecrets(cluster.Metadata().ID())), denied, ""},
		{"talosconfig of a cluster", get(omni.NewTalosConfig(cluster.Metadata().ID())), denied, ""},
		{"access policy", create(auth.NewAccessPolicy()), writeDenied, ""},
		{"SAML label rule", create(auth.NewSAMLLabelRule(o.id("x"))), writeDenied, ""},
		{"S3 configuration", create(omni.NewEtcdBackupS3Conf()), writeDenied, ""},
		{"users", list(auth.NewUser("")), denied, ""},
		{"a type that does not exist", func(ctx context.Context, st state.State) error {
			_, err := st.Get(ctx, resource.NewMetadata("default", "Nothings.omni.sidero.dev", "x", resource.VersionUndefined))

			return err
		}, denied, ""},
	})
}

// TestLimitedToACluster: what an account may do that an access policy makes an Operator in one cluster, and that is nobody elsewhere.
func TestLimitedToACluster(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	o.prefix = limitedPrefix
	cluster, patch, other := o.cluster("blue"), o.patch("blue", "patch"), o.patch("red", "other")
	o.make(cluster, o.cluster("red"), patch, other)

	inBlue := resource.LabelEqual(omni.LabelCluster, cluster.Metadata().ID())
	inRed := resource.LabelEqual(omni.LabelCluster, o.id("red"))

	check(t, o.limitedTo(cluster.Metadata().ID()).State(), []row{
		{"get", get(patch), accepted, ""},
		{"get of the cluster", get(cluster), accepted, ""},
		{"get in another cluster", get(other), denied, ""},
		{"get of another cluster", get(o.cluster("red")), denied, ""},
		{"get of a cluster that is not there", get(o.cluster("x")), denied, ""},
		{"list of all", list(patch), denied, ""},
		{"list of the cluster's", list(patch, state.WithLabelQuery(inBlue)), accepted, ""},
		{"list of another's", list(patch, state.WithLabelQuery(inRed)), denied, ""},
		{"watch of all", watch(patch, state.WithBootstrapContents(true)), denied, ""},
		{"watch of the cluster's", watch(patch, state.WithBootstrapContents(true), state.WatchWithLabelQuery(inBlue)), accepted, ""},
		{"watch of another's", watch(patch, state.WithBootstrapContents(true), state.WatchWithLabelQuery(inRed)), denied, ""},
		{"create", create(o.patch("blue", "mine")), accepted, ""},
		{"create in another cluster", create(o.patch("red", "mine-too")), writeDenied, ""},
		{"create of another cluster", create(o.cluster("x")), writeDenied, ""},
		{"create of a class", create(o.class("x")), writeDenied, ""},
		{"update", change(patch, touch[*omni.ConfigPatch]), accepted, ""},
		{"move to another cluster", change(patch, func(r *omni.ConfigPatch) {
			r.Metadata().Labels().Set(omni.LabelCluster, o.id("red"))
		}), writeDenied, ""},
		{"teardown in another cluster", teardown(other), writeDenied, ""},
		{"teardown", teardown(patch), accepted, ""},
	})
}

// limitedTo connects with an account that is an Operator in one cluster; a real Omni's access policy, of which there is one, has a
// rule for it as long as the test runs.
func (o *tenant) limitedTo(cluster string) *client.Conn {
	o.t.Helper()

	if target.server != nil {
		return dial(o.t, target.server.ServiceAccountKey(limited))
	}

	name, token := o.newAccount(roleNone)
	identity := access.ParseServiceAccountFromName(name).FullID()
	rules := func(edit func([]*specs.AccessPolicyRule) []*specs.AccessPolicyRule) func(context.Context) error {
		return func(ctx context.Context) error {
			return safe.StateModify(ctx, o.st, auth.NewAccessPolicy(), func(r *auth.AccessPolicy) error {
				r.TypedSpec().Value.Rules = edit(r.TypedSpec().Value.Rules)

				return nil
			})
		}
	}

	must(o.t, rules(func(all []*specs.AccessPolicyRule) []*specs.AccessPolicyRule {
		return append(all, &specs.AccessPolicyRule{Users: []string{identity}, Clusters: []string{cluster}, Role: roleOperator})
	})(testContext(o.t)))

	o.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()

		if err := rules(func(all []*specs.AccessPolicyRule) []*specs.AccessPolicyRule {
			return slices.DeleteFunc(all, func(rule *specs.AccessPolicyRule) bool { return slices.Contains(rule.GetUsers(), identity) })
		})(ctx); err != nil {
			o.t.Errorf("take the rule of %s out of the access policy: %v", identity, err)
		}

		policy, err := safe.StateGet[*auth.AccessPolicy](ctx, o.st, auth.NewAccessPolicy().Metadata())
		if err == nil && policy.TypedSpec().Value.EqualVT(&specs.AccessPolicySpec{}) {
			err = destroy(policy)(ctx, o.st) // as good as none, and there was none before
		}

		if err != nil && outcomeOf(err) != missing {
			o.t.Errorf("remove the empty access policy: %v", err)
		}
	})

	return dial(o.t, token)
}
