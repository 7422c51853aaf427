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

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/test/daemon"
	"github.com/omni-syncd/omni-syncd/test/fleet"
)

// memory is what a process needs that holds a fleet, both rendered and live.
type memory struct {
	Clusters  int    `json:"clusters"`
	Resources int    `json:"resources"`
	Heap      uint64 `json:"heapBytes"`     // in use, at rest
	Resident  uint64 `json:"residentBytes"` // at rest
	Peak      uint64 `json:"peakBytes"`     // resident, at the start
}

func (m memory) String() string {
	return fmt.Sprintf("%s\t%d\t%s\t%s\t%s\t%.2f KiB", size(m.Clusters, largeMachines), m.Resources,
		mebibytes(m.Heap), mebibytes(m.Resident), mebibytes(m.Peak), float64(m.Resident)/1024/float64(m.Resources))
}

// memoryFigures holds fleets of several sizes, each in a process of its own.
func memoryFigures(tb testing.TB, r *report) {
	for _, clusters := range []int{100, 300, 1000, 3000} {
		if clusters > *largest {
			break
		}

		m := measureMemory(tb, clusters)
		r.Memory = append(r.Memory, m)
		tb.Log(m)
		debug.FreeOSMemory()
	}
}

func measureMemory(tb testing.TB, clusters int) (m memory) {
	tb.Helper()

	f := fleet.New(fleet.Config{Clusters: clusters, Machines: largeMachines})
	repository := newRepository(tb, f.Files)
	o := startFar(tb, 0, embedded.Config{})
	resources := seed(tb, o.Omni, rendered(tb, repository.fetch(tb)))

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
	m.Clusters, m.Resources = clusters, resources
	o.Stop(tb)

	return m
}

// TestMemoryChild is the process that measureMemory looks at.
func TestMemoryChild(t *testing.T) {
	endpoint := os.Getenv("BENCH_CHILD_OMNI")
	if endpoint == "" {
		t.Skip("runs for TestReport")
	}

	conn, err := omni.Dial(omni.ConnConfig{Endpoint: endpoint, ServiceAccountKey: os.Getenv("BENCH_CHILD_KEY")})
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
