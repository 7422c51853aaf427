package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// The report is made by `make bench`, and a part of it by its PART: without its flag TestReport
// is skipped.
var (
	reportTo = flag.String("report", "", "write the report to this file as JSON, and as a table to the terminal")
	large    = flag.Int("clusters", 1000, "clusters of the large fleet, of 50 machines each")
	commit   = flag.String("commit", "unknown", "what is measured")
	largest  = flag.Int("largest", 3000, "clusters of the largest fleet that the growth is measured with")
)

const (
	largeMachines = 50

	// What upstream's sync of is measured: it takes a minute for these already.
	smallClusters, smallMachines = 100, 10
)

// figure is one line of the report.
type figure struct {
	Name  string `json:"name"`
	Fleet string `json:"fleet"`         // clusters × machines
	RTT   string `json:"rtt,omitempty"` // of the way to Omni

	Ours     measure  `json:"omniSyncd"`
	Upstream *measure `json:"upstream,omitempty"` // or what else it is held against
	Against  string   `json:"against,omitempty"`  // what Upstream is, if it is not upstream's code doing the same

	Goal string `json:"goal,omitempty"`
	Met  bool   `json:"met"`
}

// measure is what something took.
type measure struct {
	Wall  time.Duration `json:"wallNanoseconds"`
	CPU   time.Duration `json:"cpuNanoseconds,omitempty"` // of the process: of the Omni in it, too
	Alloc uint64        `json:"allocatedBytes,omitempty"`
	spent
}

// taken measures fn. What was measured before leaves it no garbage.
func taken(fn func()) measure {
	var before, after runtime.MemStats

	runtime.GC()
	runtime.ReadMemStats(&before)

	cpu, start := cpuTime(), time.Now()

	fn()

	m := measure{Wall: time.Since(start), CPU: cpuTime() - cpu}

	runtime.ReadMemStats(&after)
	m.Alloc = after.TotalAlloc - before.TotalAlloc

	return m
}

// least is the best of n times, which other work on the machine disturbed least.
func least(n int, once func() measure) measure {
	best := once()

	for range n - 1 {
		best = faster(best, once())
	}

	return best
}

func faster(a, b measure) measure {
	if b.Wall < a.Wall {
		return b
	}

	return a
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}

	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// report is the whole of it.
type report struct {
	Commit  string    `json:"commit"`
	Machine string    `json:"machine"`
	Go      string    `json:"go"`
	Time    time.Time `json:"time"`
	Figures []figure  `json:"figures"`
	Growth  []growth  `json:"growth"`
}

// add says what came out at once: the whole takes its time.
func (r *report) add(tb testing.TB, f figure) {
	tb.Helper()
	r.Figures = append(r.Figures, f)
	tb.Log(f)
}

func (f figure) String() string {
	text := fmt.Sprintf("%s\t%s\t%s\t%s", f.Name, f.Fleet, f.RTT, f.Ours)

	if f.Upstream != nil {
		text += fmt.Sprintf("\t%s", *f.Upstream)
		if f.Against != "" {
			text += " (" + f.Against + ")"
		}

		text += fmt.Sprintf("\t%.1f ×", float64(f.Upstream.Wall)/float64(f.Ours.Wall))
	} else {
		text += "\t\t"
	}

	switch {
	case f.Goal == "":
		return text + "\t"
	case f.Met:
		return text + "\t" + f.Goal + ": met"
	default:
		return text + "\t" + f.Goal + ": NOT met"
	}
}

func (m measure) String() string {
	parts := []string{short(m.Wall)}

	if m.Alloc > 0 {
		parts = append(parts, mebibytes(m.Alloc)+" allocated")
	}

	if m.RPCs > 0 {
		parts = append(parts, fmt.Sprintf("%d RPCs", m.RPCs), kibibytes(m.Bytes)+" on the way")
	}

	return strings.Join(parts, ", ")
}

func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	default:
		return d.Round(time.Microsecond).String()
	}
}

func kibibytes(n int64) string {
	if n >= 1<<20 {
		return mebibytes(uint64(n))
	}

	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// TestReport measures everything, next to upstream's code doing the same work in the same run.
func TestReport(t *testing.T) {
	if *reportTo == "" {
		t.Skip("make bench runs it")
	}

	r := &report{Commit: *commit, Machine: machine(), Go: runtime.Version(), Time: time.Now().UTC().Truncate(time.Second)}

	// Each begins with a process as small as it can be.
	for _, stage := range []struct {
		name    string
		measure func(testing.TB, *report)
	}{
		{"render", renderFigures}, {"read", readFigures}, {"change", changeFigures}, {"push", pushFigures}, {"sync", syncFigures}, {"growth", growthFigures},
	} {
		t.Run(stage.name, func(t *testing.T) { stage.measure(t, r) })
		debug.FreeOSMemory()
	}

	data, err := json.MarshalIndent(r, "", "  ")
	check(t, err)
	check(t, os.WriteFile(*reportTo, append(data, '\n'), 0o644)) //nolint:gosec // it is for everybody
	r.print()
}

func (r *report) print() {
	fmt.Printf("\n%s, %s, %s, commit %s\n\n", r.Time.Format("2006-01-02"), r.Machine, r.Go, r.Commit)

	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "FIGURE\tFLEET\tRTT\tOMNI-SYNCD\tUPSTREAM\tRATIO\tGOAL")

	for _, f := range r.Figures {
		fmt.Fprintln(table, f)
	}

	table.Flush() //nolint:errcheck // a terminal

	if len(r.Growth) > 0 {
		fmt.Fprintln(table, "\nFLEET\tRESOURCES\tRENDER, COLD\tSTART TO READY\tONE TEMPLATE\tTEN BESIDE IT\tHEAP\tRESIDENT\tPEAK\tFOR EACH RESOURCE")
	}

	for _, g := range r.Growth {
		fmt.Fprintln(table, g)
	}

	table.Flush() //nolint:errcheck // a terminal
}

func machine() string {
	model := "unknown processor"

	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(info), "model name\t: "); ok {
			model, _, _ = strings.Cut(rest, "\n")
		}
	}

	return fmt.Sprintf("%d × %s", runtime.NumCPU(), model)
}
