package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// binary is the daemon, built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "chaos")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary

	binary = filepath.Join(dir, "omni-syncd")

	args := append([]string{"build", "-o", binary}, buildFlags...)

	if out, err := exec.Command("go", append(args, "github.com/omni-syncd/omni-syncd/cmd/omni-syncd")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the daemon: %v\n%s", err, out)

		return 1
	}

	return m.Run()
}

const (
	// defaultDuration is how long steps are taken if only CHAOS_SEED is set. The last quiet
	// point comes after it.
	defaultDuration = time.Minute
	// quietEvery is how many steps there are between two quiet points.
	quietEvery = 25
	// shownSteps is how many of the last steps a failure prints.
	shownSteps = 30
)

// options of a run.
type options struct {
	seed     uint64
	steps    int           // 0 is no limit
	duration time.Duration // 0 is no limit
}

// fromEnv reads CHAOS_SEED, CHAOS_STEPS and CHAOS_DURATION.
func fromEnv(t *testing.T) options {
	t.Helper()

	o := options{seed: rand.Uint64N(1 << 32), duration: defaultDuration}

	var err, errs error

	if s := os.Getenv("CHAOS_SEED"); s != "" {
		o.seed, err = strconv.ParseUint(s, 10, 64)
		errs = errors.Join(errs, err)
	}

	if s := os.Getenv("CHAOS_STEPS"); s != "" {
		o.steps, err = strconv.Atoi(s)
		errs = errors.Join(errs, err)
		o.duration = 0
	}

	if s := os.Getenv("CHAOS_DURATION"); s != "" {
		o.duration, err = time.ParseDuration(s)
		errs = errors.Join(errs, err)
	}

	if errs != nil {
		t.Fatal(errs)
	}

	return o
}

func TestChaos(t *testing.T) {
	if os.Getenv("CHAOS_SEED")+os.Getenv("CHAOS_STEPS")+os.Getenv("CHAOS_DURATION") == "" {
		t.Skip("it takes long and all cores: make chaos")
	}

	run(t, fromEnv(t))
}

// regressions are seeds that once failed, with the bug that they found.
var regressions = []struct {
	seed  uint64
	steps int
	bug   string
}{}

// TestRegressions replays the seeds that once failed. It takes minutes: only on request.
func TestRegressions(t *testing.T) {
	if os.Getenv("CHAOS_REGRESSIONS") == "" {
		t.Skip("set CHAOS_REGRESSIONS=1 to replay the seeds that once failed")
	}

	for _, r := range regressions {
		t.Run(fmt.Sprint(r.seed), func(t *testing.T) {
			t.Log(r.bug)
			run(t, options{seed: r.seed, steps: r.steps})
		})
	}
}

// run takes random steps until the options say stop, with a quiet point every few of them
// and at the end.
func run(t *testing.T, o options) {
	t.Logf("seed %d (CHAOS_SEED=%d repeats the steps)", o.seed, o.seed)

	ctx := t.Context()
	w := newWorld(t, o.seed)
	rng := newRNG(o.seed, 0)
	start := time.Now()

	w.quiet(ctx)

	for n := 1; (o.steps == 0 || n <= o.steps) && (o.duration == 0 || time.Since(start) < o.duration); n++ {
		s := draw(rng, n)
		begun := time.Now()
		detail := s.do(ctx, w, s)
		w.steps++
		w.tally("step", s.name)
		w.note("%s: %s", s, detail)

		wait(ctx, s.pause)
		w.check(time.Now().Add(-shadowLag))
		w.took("steps", time.Since(begun))

		if n%quietEvery == 0 {
			w.quiet(ctx)
		}
	}

	w.quiet(ctx)
	w.stop(ctx)
	took := time.Since(start)
	t.Logf("seed %d: %d steps (%.1f a second) with %d quiet points in %s; %d starts of the daemon\n%s",
		o.seed, w.steps, float64(w.steps)/took.Seconds(), w.quiets, took.Round(time.Second), w.daemon.started(), w.histogram())
}

// note keeps what happened, for a failure to print.
func (w *world) note(format string, args ...any) {
	w.done = append(w.done, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// histogram says how often what happened.
func (w *world) histogram() string {
	w.mu.Lock()
	defer w.mu.Unlock()

	var b strings.Builder

	for _, kind := range slices.Sorted(maps.Keys(w.tallies)) {
		fmt.Fprintf(&b, "%s:", kind)

		for _, what := range slices.Sorted(maps.Keys(w.tallies[kind])) {
			fmt.Fprintf(&b, " %s %d;", what, w.tallies[kind][what])
		}

		b.WriteString("\n")
	}

	b.WriteString("seconds:")

	for _, what := range slices.Sorted(maps.Keys(w.spent)) {
		fmt.Fprintf(&b, " %s %.1f;", what, w.spent[what].Seconds())
	}

	return b.String()
}

// fail ends the test with everything that is needed to understand it.
func (w *world) fail(format string, args ...any) {
	w.t.Helper()

	last := w.done[max(0, len(w.done)-shownSteps):]
	w.t.Fatalf("seed %d, after step %d: %s\n\nthe last steps:\n  %s\n\nthe end of the daemon's log:\n%s\n\nto repeat: make chaos SEED=%d STEPS=%d",
		w.seed, w.steps, fmt.Sprintf(format, args...), strings.Join(last, "\n  "), w.daemon.log.tail(), w.seed, w.steps+quietEvery)
}

// must fails the test for an error of the test itself.
func (w *world) must(err error) {
	w.t.Helper()

	if err != nil {
		w.fail("the test itself: %v", err)
	}
}

// wait returns after d or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()

	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
