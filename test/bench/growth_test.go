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
		size(g.Clusters, largeMachines), strconv.Itoa(g.Resources), g.Render.String(), g.Ready.String(), g.Change.String(),
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
		g          = growth{Clusters: clusters}
		f          = fleet.New(fleet.Config{Clusters: clusters, Machines: largeMachines})
		repository = newRepository(tb, f.Files)
		first      = repository.fetch(tb)
		writes     = newWrites()
		o          = startFar(tb, 0, embedded.Config{OnWrite: writes.note})
		targets    []*render.Target
	)

	g.Render = taken(func() { targets = rendered(tb, first) })
	g.Resources = seed(tb, o.Omni, targets)
	targets = nil
	g.memory = measureMemory(tb, o, repository)
	g.Ready = o.taken(func() { bootstrap(tb, o) })

	d := daemon.Start(tb, o.Omni, func(_ *enginesync.Config, s *live.SnapshotConfig) { s.Relist = time.Hour })
	synced(tb, d, d.Feed(first.FS))

	// It is the same in every fleet, but for what is measured by chance: that takes many tries to get rid of.
	g.Change = oneTemplate(tb, 30, o, d, writes, repository, f)

	d.Stop(tb)
	o.Stop(tb)

	return g
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
