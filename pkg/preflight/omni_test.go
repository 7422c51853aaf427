package preflight_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
	"github.com/omni-syncd/omni-syncd/pkg/preflight"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

const (
	timeout         = 2 * time.Minute
	classController = "MachineSetNodeController"
)

// TestEmbeddedOmniAgrees holds the preflight to the embedded Omni, in both directions and in each release that it plays (F7: the
// preflight was that of 1.9 whatever Omni it was).
func TestEmbeddedOmniAgrees(t *testing.T) {
	for _, release := range embedded.Releases() {
		t.Run(release, func(t *testing.T) {
			version, err := embedded.VersionOf(release)
			must(t, err)

			server := daemon.StartOmni(t, embedded.Config{Step: 2 * time.Millisecond, Version: version})

			deprecated := omni.NewTalosVersion("1.10.0")
			deprecated.TypedSpec().Value.Deprecated = true

			next := omni.NewTalosVersion("1.14.0") // for what differs from Talos 1.13 on
			next.TypedSpec().Value.CompatibleKubernetesVersions = []string{"1.34.3", "1.35.0", "1.36.0"}

			for _, r := range list(features(), deprecated, next) {
				must(t, server.State().Create(t.Context(), r))
			}

			agrees(t, server.Conn.State(), &backstage{server})
		})
	}
}

// backstage does what only Omni itself can.
type backstage struct{ server *daemon.Omni }

func (b *backstage) addMachine(t *testing.T, id string, row row) {
	must(t, b.server.AddMachine(t.Context(), embedded.Machine{ID: id, TalosVersion: row.machine, Uninstalled: row.iso}))
}

func (b *backstage) put(t *testing.T, all []resource.Resource) {
	owners := map[resource.Type]string{
		omni.ClusterBootstrapStatusType: "ClusterBootstrapStatusController", omni.ClusterConfigVersionType: "ClusterConfigVersionController",
	}

	for _, r := range all {
		owner := owners[r.Metadata().Type()]
		r = r.DeepCopy()

		err := b.server.State().Create(t.Context(), r, state.WithCreateOwner(owner))
		if state.IsConflictError(err) {
			have, getErr := b.server.State().Get(t.Context(), r.Metadata())
			must(t, getErr)

			*r.Metadata() = have.Metadata().Copy()
			err = b.server.State().Update(t.Context(), r, state.WithUpdateOwner(owner))
		}

		must(t, err)
	}
}

func (b *backstage) edit(t *testing.T, cluster *omni.Cluster, edit func(*omni.Cluster)) {
	_, err := safe.StateUpdateWithConflicts(t.Context(), b.server.State(), cluster.Metadata(), func(r *omni.Cluster) error {
		edit(r)

		return nil
	})
	must(t, err)
}

// TestRealOmniAgrees does the same with the Omni that the environment names. Everything
// it makes is removed; it makes no machines.
func TestRealOmniAgrees(t *testing.T) {
	endpoint, key := os.Getenv("OMNI_ENDPOINT"), os.Getenv("OMNI_SERVICE_ACCOUNT_KEY")
	if endpoint == "" || key == "" {
		t.Skip("set OMNI_ENDPOINT and OMNI_SERVICE_ACCOUNT_KEY")
	}

	conn, err := livestate.Dial(livestate.ConnConfig{Endpoint: endpoint, ServiceAccountKey: key})
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })

	agrees(t, conn.State(), nil)
}

func agrees(t *testing.T, st state.State, behind *backstage) {
	o := &target{st: st, behind: behind, offered: memory{}}

	for _, typ := range []resource.Type{omni.TalosVersionType, omni.TalosExtensionsType, omni.FeaturesConfigType} {
		o.read(t, o.offered, livestate.Kind{Namespace: resources.DefaultNamespace, Type: typ})
	}

	o.read(t, o.offered, livestate.ServerKind)

	prefix, versions, server := "preflight-"+random(), readCatalogue(t, o.offered), o.offered.server()

	t.Run("rows", func(t *testing.T) {
		for i := range rows(lab{cluster: prefix, server: server, catalogue: versions}) {
			l := lab{cluster: fmt.Sprintf("%s-%d", prefix, i), server: server, catalogue: versions}
			row := rows(l)[i]

			t.Run(row.name, func(t *testing.T) {
				t.Parallel()

				if behind == nil && (row.machine != "" || row.already != nil || row.meanwhile != nil || row.edit != nil) {
					t.Skip("this takes what only Omni itself can make")
				}

				if row.machine != "" {
					behind.addMachine(t, l.machine("m").Metadata().ID(), row)
				}

				if row.already != nil {
					behind.put(t, row.already)
				}

				o.agrees(t, l, row)
			})
		}
	})
}

// agrees applies the revisions of a row, and compares what Omni says with what Check says.
func (o *target) agrees(t *testing.T, l lab, row row) {
	t.Cleanup(func() { o.remove(t, l, row) })

	for _, class := range row.classes {
		must(t, o.st.Create(ctx(t), class.DeepCopy()))
	}

	for _, revision := range [][]resource.Resource{row.before, row.between} {
		if revision == nil {
			continue
		}

		if findings := o.live(t).check(l.cluster, revision); len(findings) > 0 {
			t.Fatalf("found in an earlier revision: %v", findings)
		}

		if refused, err := o.apply(t, l.cluster, revision); err != nil {
			t.Fatalf("an earlier revision is refused: %v: %v", refused, err)
		}

		o.settle(t, l, revision)
	}

	if row.locked != nil {
		o.lock(t, row.locked.Metadata())
	}

	if row.meanwhile != nil {
		o.behind.put(t, row.meanwhile)
	}

	if row.edit != nil {
		o.behind.edit(t, l.newCluster(), row.edit)
	}

	findings := o.live(t).check(l.cluster, row.after)
	refused, err := o.apply(t, l.cluster, row.after)

	compare(t, row, findings)

	switch accepted := row.says == "" || row.trap; {
	case err == nil && !accepted:
		t.Errorf("Omni takes what is refused here: %v", findings)
	case err != nil && accepted:
		t.Errorf("Omni refuses %s: %v", refused, err)
	case err != nil && !sameRef(refused, cmp.Or(row.refuses, row.about).Metadata()):
		t.Errorf("Omni refuses %s, not %s: %v", refused, cmp.Or(row.refuses, row.about).Metadata(), err)
	}
}

func compare(t *testing.T, row row, findings []preflight.Finding) {
	t.Helper()

	if row.says == "" {
		if len(findings) > 0 {
			t.Errorf("found %v", findings)
		}

		return
	}

	if len(findings) != 1 {
		t.Fatalf("%d findings, want one: %v", len(findings), findings)
	}

	got := findings[0]
	if !regexp.MustCompile(row.says).MatchString(got.Message) || strings.Contains(got.Message, "\n") {
		t.Errorf("says %q, want one line like %q", got.Message, row.says)
	}

	if !sameRef(got.Resource, row.about.Metadata()) {
		t.Errorf("is about %s, want %s", got.Resource, row.about.Metadata())
	}
}

func sameRef(a, b *resource.Metadata) bool { return a.Type() == b.Type() && a.ID() == b.ID() }

// target is an Omni under test.
type target struct {
	st      state.State
	behind  *backstage // nil in a real Omni
	offered memory     // what does not change
}

// kinds returns what may be written to this Omni.
func (o *target) kinds() []render.Kind {
	return slices.DeleteFunc(render.Kinds(), func(k render.Kind) bool { return !o.offered.server().Has(k.Since) })
}

// live reads all that a snapshot would hold.
func (o *target) live(t *testing.T) memory {
	t.Helper()

	m := memory{}

	for _, kind := range o.kinds() {
		o.read(t, m, livestate.Kind(kind))
	}

	for _, kind := range preflight.Kinds() {
		if o.offered[kind.Type] == nil {
			o.read(t, m, kind)
		}
	}

	for typ := range o.offered {
		m[typ] = o.offered[typ]
	}

	return m
}

func (o *target) read(t *testing.T, m memory, kind livestate.Kind) {
	t.Helper()

	items, err := o.st.List(ctx(t), resource.NewMetadata(kind.Namespace, kind.Type, "", resource.VersionUndefined))
	must(t, err)
	m.put(items.Items...)
}

// apply writes what differs, in the order of the plan, until nothing differs or Omni refuses something.
func (o *target) apply(t *testing.T, cluster string, desired []resource.Resource) (*resource.Metadata, error) {
	t.Helper()

	for deadline := ctx(t); deadline.Err() == nil; {
		plan := diff.Compute(diff.Input{Source: source, Target: cluster, Desired: desired, Live: o.live(t).cluster(cluster, desired)})
		if plan.Empty() {
			return nil, nil
		}

		for i := range plan.Changes {
			change := &plan.Changes[i]

			if err := o.write(deadline, change); livestate.Rejected(err) || livestate.Denied(err) { // of a kind that it does not have
				return change.Metadata(), err
			} else if err != nil && !livestate.Conflict(err) && !livestate.NotFound(err) {
				t.Fatalf("%s %s: %v", change.Action, change.Metadata(), err)
			} else if err != nil {
				break // a controller was quicker
			}
		}
	}

	t.Fatal("the revision is not applied in time")

	return nil, nil
}

func (o *target) write(ctx context.Context, change *diff.Change) error {
	switch change.Action {
	case diff.Create:
		return o.st.Create(ctx, change.New.DeepCopy())
	case diff.Destroy:
		// What Git locked is unlocked first, as pkg/sync does.
		if unlocked, ok := diff.Unlocked(change.Old); ok {
			if err := o.st.Update(ctx, unlocked); err != nil {
				return err
			}
		}

		_, err := o.st.Teardown(ctx, change.Old.Metadata())

		return err
	default:
		return o.st.Update(ctx, change.New.DeepCopy())
	}
}

// lock locks a machine as a person does.
func (o *target) lock(t *testing.T, md *resource.Metadata) {
	t.Helper()

	_, err := o.st.UpdateWithConflicts(ctx(t), md, func(r resource.Resource) error {
		r.Metadata().Annotations().Set(omni.MachineLocked, "")

		return nil
	})
	must(t, err)
}

// settle waits for what the controllers make of a revision and what Omni judges the next one by.
func (o *target) settle(t *testing.T, l lab, revision []resource.Resource) {
	t.Helper()

	_, err := o.st.WatchFor(ctx(t), omni.NewClusterConfigVersion(l.cluster).Metadata(), state.WithEventTypes(state.Created, state.Updated))
	must(t, err)

	for _, r := range revision {
		set, ok := r.(*omni.MachineSet)
		if !ok || omni.GetMachineAllocation(set) == nil {
			continue
		}

		_, err = o.st.WatchFor(ctx(t), set.Metadata(), state.WithEventTypes(state.Created, state.Updated), state.WithCondition(func(r resource.Resource) (bool, error) {
			return r.Metadata().Finalizers().Has(classController), nil
		}))
		must(t, err)
	}
}

// remove removes a cluster and its classes, and frees a trapped machine set.
func (o *target) remove(t *testing.T, l lab, row row) {
	cluster := l.newCluster().Metadata()

	deadline, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()

	if row.trap {
		set, err := o.st.Get(deadline, row.about.Metadata())
		must(t, err)

		if !set.Metadata().Finalizers().Has(classController) {
			t.Error("it is no trap any more: the controller let the machine set go")
		}

		must(t, o.st.RemoveFinalizer(deadline, row.about.Metadata(), classController))
	}

	if _, err := o.st.Teardown(deadline, cluster); err == nil {
		_, err = o.st.WatchFor(deadline, cluster, state.WithEventTypes(state.Destroyed))
		must(t, err)
	} else if !livestate.NotFound(err) {
		t.Error(err)
	}

	for _, class := range row.classes {
		if _, err := o.st.Teardown(deadline, class.Metadata()); err != nil {
			t.Error(err)
		}
	}

	for _, r := range row.after {
		if _, ok := r.(*installdisk.Config); !ok || !o.offered.server().Has(installdisk.Since) {
			continue
		}

		if _, err := o.st.Teardown(deadline, r.Metadata()); err != nil && !livestate.NotFound(err) {
			t.Error(err)
		}
	}

	// What a refused revision left behind without its cluster.
	for _, kind := range o.kinds() {
		items, err := o.st.List(deadline, resource.NewMetadata(kind.Namespace, kind.Type, "", resource.VersionUndefined),
			state.WithLabelQuery(resource.LabelEqual(omni.LabelCluster, l.cluster)))
		must(t, err)

		for _, r := range items.Items {
			if _, err = o.st.Teardown(deadline, r.Metadata()); err != nil && !livestate.NotFound(err) {
				t.Error(err)
			}
		}
	}
}

func ctx(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)

	return ctx
}

func random() string {
	b := make([]byte, 3)
	_, _ = rand.Read(b)

	return hex.EncodeToString(b)
}

func must(t *testing.T, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}
