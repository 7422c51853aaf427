package sync_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	gosync "sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

const (
	commits = 100
	settle  = 5 * time.Second // of the engine's health

	// Omni sees what is written up to so much later, and follows its own statuses up to so much later.
	writeLag, statusLag = 4 * settle, settle * 4 / 5
)

// `reconcile --wait` said that all was well 2 s after a Kubernetes bump, while the upgrade ran.
// A hundred commits: it never comes back before Omni has come to rest, and never waits for
// longer than the settle time after that. WAIT_SEED chooses other commits and other lags.
func TestWait_HundredCommits(t *testing.T) {
	seed := uint64(1)
	if value, ok := os.LookupEnv("WAIT_SEED"); ok {
		seed, _ = strconv.ParseUint(value, 10, 64)
	}

	t.Logf("WAIT_SEED=%d", seed)

	synctest.Test(t, func(t *testing.T) {
		w := startWaiting(t, seed)
		defer w.stop()

		for n := range commits {
			what := w.change()
			w.say("commit %d: %s", n, what)
			w.commitAndWait()

			if t.Failed() {
				t.Fatalf("after commit %d (%s), WAIT_SEED=%d:\n%s", n, what, seed, strings.Join(w.log[max(0, len(w.log)-40):], "\n"))
			}
		}

		t.Logf("waited %s in all, %s of it after Omni had come to rest; %v", w.waited, w.late, w.kinds)
	})
}

// waiting is an Omni whose statuses lag behind, a daemon, and somebody who commits and waits.
type waiting struct {
	t      *testing.T
	random *rand.Rand
	omni   *embedded.Server
	engine *sync.Engine
	feed   *daemon.Feed
	stop   func()

	clusters map[string]*described
	next     int // machine

	mu    gosync.Mutex
	moved time.Time // when a status, or what is written, last changed
	log   []string

	waited, late time.Duration
	kinds        map[string]int
}

func startWaiting(t *testing.T, seed uint64) *waiting {
	w := &waiting{t: t, random: rand.New(rand.NewPCG(seed, 0)), feed: daemon.NewFeed(), clusters: map[string]*described{}, kinds: map[string]int{}}

	var err error

	w.omni, err = embedded.New(embedded.Config{HealthyMachines: true, Step: time.Second, Lag: func(typ resource.Type) time.Duration {
		h := fnv.New64a()
		fmt.Fprint(h, seed, typ, time.Now().UnixNano())

		most := writeLag // the upgrade statuses of a new cluster are late, too: they wait for its bootstrap
		if typ == omnires.ClusterMachineType || strings.Contains(typ, "Status") && typ != omnires.ClusterBootstrapStatusType {
			most = statusLag
		}

		return time.Duration(h.Sum64() % uint64(most))
	}})
	if err != nil {
		t.Fatal(err)
	}

	snapshot := omni.NewSnapshot(sync.SnapshotConfig(w.omni.State()))
	w.engine = sync.New(sync.Config{
		State: w.omni.State(), Snapshot: snapshot, HealthSettle: settle, Workers: 8,
		Sources: []sync.SourceConfig{{Name: daemon.Source, Source: w.feed, Prune: true, MaxDelete: commits, MaxDeleteResources: commits, MaxDeleteMachines: commits}},
	})

	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.omni.RunControllers(ctx) })
	group.Go(func() error { return snapshot.Run(ctx) })
	group.Go(func() error { return w.engine.Run(ctx) })
	w.observe(ctx)

	w.stop = func() {
		cancel()

		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}

	return w
}

// What Omni moves before it has come to rest, and what is written.
var (
	movingKinds = []resource.Type{
		omnires.ClusterStatusType, omnires.MachineSetStatusType, omnires.ClusterMachineStatusType, omnires.KubernetesUpgradeStatusType,
		omnires.TalosUpgradeStatusType, omnires.ControlPlaneStatusType,
	}
	writtenKinds = []resource.Type{omnires.ClusterType, omnires.MachineSetType, omnires.MachineSetNodeType, omnires.ConfigPatchType, omnires.ClusterMachineType}
)

// observe notes when something moves.
func (w *waiting) observe(ctx context.Context) {
	for _, typ := range slices.Concat(movingKinds, writtenKinds) {
		events := make(chan state.Event)
		if err := w.omni.State().WatchKind(ctx, resource.NewMetadata(resources.DefaultNamespace, typ, "", resource.VersionUndefined), events); err != nil {
			w.t.Fatal(err)
		}

		go func() {
			for {
				select {
				case event := <-events:
					if event.Old != nil && slices.Contains(writtenKinds, typ) && len(diff.Fields(event.Old, event.Resource)) == 0 &&
						event.Old.Metadata().Phase() == event.Resource.Metadata().Phase() {
						continue // a finalizer
					}

					w.mu.Lock()
					w.moved = time.Now()
					w.mu.Unlock()
					w.say("%s %s: %v", event.Type, event.Resource.Metadata(), summary(event.Resource))
				case <-ctx.Done():
					return
				}
			}
		}()
	}
}

// summary is what a status says, for whoever reads of a failure.
func summary(r resource.Resource) string {
	switch r := r.(type) {
	case *omnires.Cluster:
		return r.TypedSpec().Value.GetKubernetesVersion() + " " + r.TypedSpec().Value.GetTalosVersion()
	case *omnires.ClusterStatus:
		return r.TypedSpec().Value.String()
	case *omnires.MachineSetStatus:
		return r.TypedSpec().Value.String()
	case *omnires.KubernetesUpgradeStatus:
		return r.TypedSpec().Value.String()
	case *omnires.TalosUpgradeStatus:
		return r.TypedSpec().Value.String()
	default:
		return ""
	}
}

func (w *waiting) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.log = append(w.log, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	if len(w.log) > 1000 {
		w.log = w.log[500:]
	}
}

// commitAndWait commits what is described, waits as `reconcile --source --wait` does, and
// judges when that came back.
func (w *waiting) commitAndWait() {
	files := fstest.MapFS{"README.md": text("so that it is never empty")}
	for name, d := range w.clusters {
		files[name+".yaml"] = text("%s", d.text(name))
	}

	began := time.Now()
	id := w.feed.Add(files)

	w.until("the revision", func(s sync.Status) bool { return len(s.Sources) == 1 && s.Sources[0].Revision == id })

	status, _ := w.engine.Status()
	for i := range status.Targets {
		_ = w.engine.Reconcile(status.Targets[i].Key) // one that goes in this moment need not be tried
	}

	status = w.until("rest", func(s sync.Status) bool {
		return !slices.ContainsFunc(s.Targets, func(t sync.TargetStatus) bool { return !t.Over() })
	})

	w.mu.Lock()
	if w.moved.Before(began) {
		w.moved = began
	}

	back, late := time.Now(), time.Since(w.moved)
	w.mu.Unlock()

	w.say("back after %s, %s after the last move", back.Sub(began), late)

	w.waited += back.Sub(began)
	w.late += late

	if late > settle {
		w.t.Errorf("waited for %s after Omni had come to rest", late)
	}

	w.atRest(status)

	before := w.versions()
	time.Sleep(10 * time.Minute)

	for r, version := range w.versions() {
		if before[r] != version {
			w.t.Errorf("%s moved after the wait was over", r)
		}

		delete(before, r)
	}

	for r := range before {
		w.t.Errorf("%s went after the wait was over", r)
	}
}

func (w *waiting) until(what string, condition func(sync.Status) bool) (last sync.Status) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Hour)
	defer cancel()

	if err := w.engine.WaitStatus(ctx, func(s sync.Status) bool {
		last = s

		return condition(s)
	}); err != nil {
		w.t.Fatalf("waiting for %s: %v:\n%s\n%s", what, err, daemon.Describe(last), strings.Join(w.log[max(0, len(w.log)-40):], "\n"))
	}

	return last
}

// versions are those of all that must not move any more.
func (w *waiting) versions() map[string]string {
	all := map[string]string{}

	for _, typ := range movingKinds {
		for _, r := range w.list(typ) {
			all[typ+"/"+r.Metadata().ID()] = r.Metadata().Version().String()
		}
	}

	return all
}

func (w *waiting) list(typ resource.Type) []resource.Resource {
	list, err := w.omni.State().List(w.t.Context(), resource.NewMetadata(resources.DefaultNamespace, typ, "", resource.VersionUndefined))
	if err != nil {
		w.t.Fatal(err)
	}

	return list.Items
}

// atRest checks what is said of the clusters, and that Omni has made them what Git describes.
func (w *waiting) atRest(status sync.Status) {
	for i := range status.Targets {
		if t := &status.Targets[i]; t.Sync != sync.Synced || t.Target != "" && t.Health != sync.Healthy {
			w.t.Errorf("%s: %s, %s (%s): %s", t.Target, t.Sync, t.Health, t.HealthReason, t.Message)
		}
	}

	got, want := map[string]string{}, map[string]string{}

	for name, d := range w.clusters {
		want[name] = made(d.kubernetes, d.talos, len(d.controlPlanes)+len(d.machines), fmt.Sprint(d.label))
	}

	for _, r := range w.list(omnires.ClusterStatusType) {
		got[r.Metadata().ID()] = w.reached(r.(*omnires.ClusterStatus))
	}

	if !maps.Equal(got, want) {
		w.t.Errorf("Omni is at %v, want %v", got, want)
	}
}

// made says what a cluster is, or is to be.
func made(kubernetes, talos string, machines int, label string) string {
	return fmt.Sprintf("Kubernetes %s, Talos %s, %d machines, label %s", kubernetes, talos, machines, label)
}

// reached says what Omni has made of a cluster.
func (w *waiting) reached(status *omnires.ClusterStatus) string {
	name, spec := status.Metadata().ID(), status.TypedSpec().Value
	kubernetes, talos, label := "", "", ""

	if r, err := w.omni.State().Get(w.t.Context(), omnires.NewCluster(name).Metadata()); err == nil {
		label, _ = r.Metadata().Labels().Get("n")
	}

	if r, err := w.omni.State().Get(w.t.Context(), omnires.NewKubernetesUpgradeStatus(name).Metadata()); err == nil {
		if u := r.(*omnires.KubernetesUpgradeStatus).TypedSpec().Value; u.GetPhase() == specs.KubernetesUpgradeStatusSpec_Done {
			kubernetes = u.GetLastUpgradeVersion()
		}
	}

	if r, err := w.omni.State().Get(w.t.Context(), omnires.NewTalosUpgradeStatus(name).Metadata()); err == nil {
		if u := r.(*omnires.TalosUpgradeStatus).TypedSpec().Value; u.GetPhase() == specs.TalosUpgradeStatusSpec_Done {
			talos = u.GetLastUpgradeVersion()
		}
	}

	machines := spec.GetMachines()
	if !spec.GetReady() || machines.GetTotal() != machines.GetHealthy() || machines.GetTotal() != machines.GetRequested() {
		return spec.String()
	}

	return made(kubernetes, talos, int(machines.GetTotal()), label)
}
