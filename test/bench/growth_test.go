package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	live "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	enginesync "github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
	"github.com/omni-syncd/omni-syncd/test/fleet"
)

// growth is what a fleet of one size takes, to tell what grows with it.
type growth struct {
	Clusters  int     `json:"clusters"`
	Resources int     `json:"resources"`
	Render    measure `json:"render"` // from nothing
	Ready     measure `json:"ready"`  // from the start until all of Omni is read
	Change    measure `json:"change"` // of one template: fetched to first write
	Ten       measure `json:"ten"`    // the same in a fleet of ten, by turns, in the same process
	memory
}

// memory is what a process needs that holds a fleet, both rendered and live.
type memory struct {
	Heap     uint64 `json:"heapBytes"`     // in use, at rest
	Resident uint64 `json:"residentBytes"` // at rest
	Peak     uint64 `json:"peakBytes"`     // resident, at the start
}

func (g growth) String() string {
	return strings.Join([]string{
		size(g.Clusters, largeMachines), strconv.Itoa(g.Resources), g.Render.String(), g.Ready.String(), g.Change.String(), g.Ten.String(),
		mebibytes(g.Heap), mebibytes(g.Resident), mebibytes(g.Peak), fmt.Sprintf("%.2f KiB", float64(g.Resident)/1024/float64(g.Resources)),
	}, "\t")
}

// growthFigures takes fleets of several sizes. Memory is that of a process of its own.
func growthFigures(tb testing.TB, r *report) {
	for _, clusters := range []int{10, 100, 300, 1000, 3000} {
		if clusters > *largest {
			break
		}

		g := measureGrowth(tb, clusters)
		r.Growth = append(r.Growth, g)
		tb.Log(g)
		debug.FreeOSMemory()
	}
}

func measureGrowth(tb testing.TB, clusters int) growth {
	tb.Helper()

	var (
		g    = growth{Clusters: clusters}
		held = newFleet(tb, clusters)
		ten  = newFleet(tb, 10)
	)

	first := held.repository.fetch(tb)

	var targets []*render.Target

	g.Render = taken(func() { targets = rendered(tb, first) })
	g.Resources = seed(tb, held.Omni, targets)
	targets = nil
	g.memory = measureMemory(tb, held.far, held.repository)
	g.Ready = held.taken(func() { bootstrap(tb, held.far) })

	held.start(tb)
	seed(tb, ten.Omni, rendered(tb, ten.repository.fetch(tb)))
	ten.start(tb)

	// A process that holds much is slower at everything: its memory is in no cache. So the two take turns.
	g.Change, g.Ten = held.oneTemplate(tb), ten.oneTemplate(tb)
	for range 29 {
		g.Change, g.Ten = faster(g.Change, held.oneTemplate(tb)), faster(g.Ten, ten.oneTemplate(tb))
	}

	held.stop(tb)
	ten.stop(tb)

	return g
}

// newFleet commits a fleet and starts an Omni for it.
func newFleet(tb testing.TB, clusters int) *inForce {
	tb.Helper()

	f := &inForce{fleet: fleet.New(fleet.Config{Clusters: clusters, Machines: largeMachines}), writes: newWrites()}
	f.repository = newRepository(tb, f.fleet.Files)
	f.far = startFar(tb, 0, embedded.Config{OnWrite: f.writes.note})

	return f
}

// start starts a daemon and waits until the fleet is in force.
func (f *inForce) start(tb testing.TB) {
	tb.Helper()

	// Relists are there for what the watch misses; in the middle of a figure they would be it.
	f.daemon = daemon.Start(tb, f.Omni, func(_ *enginesync.Config, s *live.SnapshotConfig) { s.Relist = time.Hour })
	synced(tb, f.daemon, f.daemon.Feed(f.repository.fetch(tb).FS))
}

func measureMemory(tb testing.TB, o *far, repository *repository) (m memory) {
	tb.Helper()

	cmd := exec.CommandContext(tb.Context(), os.Args[0], "-test.run=^TestMemoryChild$") //nolint:gosec // this program
	cmd.Env = append(os.Environ(), "BENCH_CHILD_OMNI="+o.Endpoint(), "BENCH_CHILD_REPOSITORY="+repository.dir,
		"BENCH_CHILD_KEY="+o.ServiceAccountKey(embedded.AccountOperator))

	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}

	_, line, _ := bytes.Cut(out, []byte("memory "))
	line, _, _ = bytes.Cut(line, []byte("\n"))
	check(tb, json.Unmarshal(line, &m))

	return m
}

// TestMemoryChild is the process that measureMemory looks at.
func TestMemoryChild(t *testing.T) {
	endpoint := os.Getenv("BENCH_CHILD_OMNI")
	if endpoint == "" {
		t.Skip("runs for TestReport")
	}

	conn, err := live.Dial(live.ConnConfig{Endpoint: endpoint, ServiceAccountKey: os.Getenv("BENCH_CHILD_KEY")})
	check(t, err)

	repository := openRepository(t, os.Getenv("BENCH_CHILD_REPOSITORY"))
	d := daemon.Start(t, &daemon.Omni{Conn: conn}, nil)
	synced(t, d, d.Feed(repository.fetch(t).FS))

	m := memory{Peak: resident(t, "VmHWM:")}

	// At rest is after some garbage collections: they come by themselves every two minutes.
	debug.FreeOSMemory()

	var stats runtime.MemStats

	runtime.ReadMemStats(&stats)
	m.Heap, m.Resident = stats.HeapAlloc, resident(t, "VmRSS:")

	line, err := json.Marshal(m)
	check(t, err)
	fmt.Printf("\nmemory %s\n", line)
	d.Stop(t)
	check(t, conn.Close())
}

func resident(tb testing.TB, field string) uint64 {
	tb.Helper()

	status, err := os.ReadFile("/proc/self/status")
	check(tb, err)

	_, rest, _ := strings.Cut(string(status), field)
	kilobytes, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
	check(tb, err)

	return kilobytes << 10
}
