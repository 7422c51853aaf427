package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
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

	if out, err := exec.Command("go", "build", "-o", binary, "github.com/omni-syncd/omni-syncd/cmd/omni-syncd").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the daemon: %v\n%s", err, out)

		return 1
	}

	return m.Run()
}

const (
	// defaultDuration is how long steps are taken unless CHAOS_STEPS or CHAOS_DURATION
	// says otherwise. The last quiet point comes after it.
	defaultDuration = 45 * time.Second
	// quietEvery is how many steps there are between two quiet points.
	quietEvery = 20
	// shownSteps is how many of the last steps a failure prints.
	shownSteps = 20
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
		detail := s.do(ctx, w, s)
		w.done = append(w.done, fmt.Sprintf("%s %s: %s", time.Now().Format("15:04:05.000"), s, detail))

		wait(ctx, s.pause)
		w.check(time.Now().Add(-shadowLag))

		if n%quietEvery == 0 {
			w.quiet(ctx)
		}
	}

	w.quiet(ctx)
	w.stop(ctx)
	t.Logf("%d steps, %d quiet points, %s; %s", len(w.done), w.quiets, time.Since(start).Round(time.Second), w.coverage())
}

// fail ends the test with everything that is needed to understand it.
func (w *world) fail(format string, args ...any) {
	w.t.Helper()

	last := w.done[max(0, len(w.done)-shownSteps):]
	w.t.Fatalf("seed %d, after step %d: %s\n\nthe last steps:\n  %s\n\nthe end of the daemon's log:\n%s",
		w.seed, len(w.done), fmt.Sprintf(format, args...), strings.Join(last, "\n  "), w.daemon.log.tail())
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
