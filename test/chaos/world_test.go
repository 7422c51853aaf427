package chaos

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/state"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

const (
	sourceName = "chaos"
	// otherSource is one that another daemon would follow.
	otherSource = "other"
	account     = "daemon"

	// deleteAfter and deleteWindow are as short as the tests of them allow.
	deleteAfter  = 2 * time.Second
	deleteWindow = 5 * time.Second
)

// world is everything that takes part in a run.
type world struct {
	t    *testing.T
	seed uint64

	omni     *embedded.Server
	st       state.State // the database, behind Omni's back: the UI and its controllers
	proxy    *proxy
	daemon   *process
	repo     *repo
	shadow   *shadow
	backups  []*embedded.Backup
	done     []string // steps, traps and quiet points
	steps    int
	quiets   int
	patient  int // the last quiet point that left dead connections alone
	probes   int
	deck     []trap     // the traps to come
	settings settings   // what the daemon's configuration says
	dead     bool       // connections have gone dead in silence since the last quiet point
	rng      *rand.Rand // of what happens at quiet points

	version atomic.Value // of Omni, a string; none is [embedded.Version]

	mu     sync.Mutex
	writes []write // not checked yet
	blind  []span  // when the daemon may have seen nothing of Omni
	// known and disowned: see past.
	known    map[string]time.Time
	disowned map[ref]time.Time
	// forbidden says, while it is not empty, why the daemon must not write at all.
	forbidden string
	// spared says, while it is not empty, why no cluster and no fleet resource must go.
	spared string

	tallies map[string]map[string]int // what happened how often
	spent   map[string]time.Duration  // and how long it took
}

// write is one write RPC of the daemon.
type write struct {
	embedded.Write

	at        time.Time
	born      time.Time // when the daemon was started
	place     place     // of its resource, as far as it was known
	fleet     bool      // it was a fleet resource, whatever label it carried
	forbidden string    // why nothing should have been written at all
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, seed: seed, rng: newRNG(seed, 1),
		known: map[string]time.Time{}, disowned: map[ref]time.Time{},
		tallies: map[string]map[string]int{}, spent: map[string]time.Duration{},
	}

	server, err := embedded.New(embedded.Config{
		HealthyMachines: true,
		Step:            time.Millisecond,
		Accounts:        []embedded.Account{{Name: account, Role: embedded.RoleOperator}, {Name: secondAccount, Role: embedded.RoleOperator}},
		OnWrite:         w.wrote,
	})
	if err != nil {
		t.Fatal(err)
	}

	w.omni, w.st, w.shadow = server, server.State(), newShadow(server.State())

	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)

	go func() { served <- server.Run(ctx) }()

	t.Cleanup(func() {
		cancel()

		if err := <-served; err != nil {
			t.Error(err)
		}
	})

	if w.proxy, err = newProxy(strings.TrimPrefix(server.Endpoint(), "http://")); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(w.proxy.close)

	if err := w.shadow.start(ctx); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(w.shadow.stop)

	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "fleet"), 0o755); err != nil {
		t.Fatal(err)
	}

	if w.repo, err = newRepo(ctx, filepath.Join(dir, "fleet")); err != nil {
		t.Fatal(err)
	}

	for i := range uint64(4) {
		w.repo.now.add(clusterName(i), seed+i, seed/7+i)
	}

	if err := w.repo.commit(ctx); err != nil {
		t.Fatal(err)
	}

	if err := w.addForeign(ctx); err != nil {
		t.Fatal(err)
	}

	w.startDaemon(t, dir)

	return w
}

func (w *world) startDaemon(t *testing.T, dir string) {
	config := filepath.Join(dir, "config.yaml")
	w.settings = settings{file: config, branch: "main", url: w.repo.dir}

	w.shadow.reads(w.place())

	if err := os.WriteFile(config, []byte(w.configuration()), 0o600); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())

	w.mu.Lock()
	w.daemon = startProcess(ctx, config, []string{
		"OMNI_ENDPOINT=", "OMNI_SERVICE_ACCOUNT_KEY=" + w.omni.ServiceAccountKey(account), "HOME=" + dir,
	})
	w.mu.Unlock()

	w.shadow.mu.Lock()
	w.shadow.born, w.shadow.torn = w.daemon.bornAt, w.tore
	w.shadow.mu.Unlock()

	t.Cleanup(func() {
		defer cancel()

		ended, done := context.WithTimeout(context.Background(), time.Second)
		defer done()

		if w.daemon.running() {
			_ = w.daemon.stop(ended) // the test has failed already
		}
	})
}

// stop ends the daemon as a person does; that must succeed.
func (w *world) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()

	if err := w.daemon.stop(ctx); err != nil {
		w.fail("stopping the daemon: %v", err)
	}
}

// wrote is embedded's OnWrite.
func (w *world) wrote(rpc embedded.Write) {
	if rpc.Identity == secondAccount {
		w.strayed(rpc)
	}

	if rpc.Identity != account {
		return
	}

	entry := write{Write: rpc, at: time.Now()}

	w.shadow.mu.Lock()
	if l := w.shadow.lives[ref{rpc.Type, rpc.ID}]; l != nil {
		entry.place, entry.fleet = l.place, l.fleet
	}
	w.shadow.mu.Unlock()

	w.mu.Lock()
	defer w.mu.Unlock()

	entry.forbidden, entry.born = w.forbidden, w.daemon.bornAt()

	w.writes = append(w.writes, entry)
}

// forbid says why the daemon must not write from now on; "" allows it again.
func (w *world) forbid(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.forbidden = why
}

// spare says why nothing must leave Omni from now on; "" allows it again.
func (w *world) spare(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.spared = why
}

// disown notes that resources are not ours from now on, while nothing is under way.
func (w *world) disown(keys ...ref) {
	w.mu.Lock()
	defer w.mu.Unlock()

	for _, key := range keys {
		w.disowned[key] = time.Now()
	}
}

// tally counts what happened.
func (w *world) tally(kind, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if w.tallies[kind] == nil {
		w.tallies[kind] = map[string]int{}
	}

	w.tallies[kind][what]++
}

// blindFor notes that the daemon may see nothing of Omni for a while.
func (w *world) blindFor(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.blind = append(w.blind, span{from: time.Now(), to: time.Now().Add(d)})
}

// blindUntilHealed notes that the daemon may see nothing until [world.sighted].
func (w *world) blindUntilHealed() {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.blind = append(w.blind, span{from: time.Now()})
}

// sighted notes that what made the daemon blind is over.
func (w *world) sighted() {
	w.mu.Lock()
	defer w.mu.Unlock()

	for i := range w.blind {
		if w.blind[i].to.IsZero() {
			w.blind[i].to = time.Now().Add(recovery)
		}
	}
}

// recovery is how long the daemon may take to see Omni again after a fault: the longest
// pause of a watch that failed again and again.
const recovery = 35 * time.Second
