package failover

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/omni-syncd/omni-syncd/test/kube"
)

// binary is the daemon, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(kube.Wrap(built{m}).Run()) }

// built builds the daemon before the tests.
type built struct{ tests *testing.M }

func (b built) Run() int {
	if os.Getenv("OMNI_SYNCD_TEST_KUBE") == "" {
		return b.tests.Run() // all of them are skipped
	}

	dir, err := os.MkdirTemp("", "failover")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary

	binary = filepath.Join(dir, "omni-syncd")

	if out, err := exec.Command("go", "build", "-race", "-o", binary, "github.com/omni-syncd/omni-syncd/cmd/omni-syncd").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the daemon: %v\n%s", err, out)

		return 1
	}

	return b.tests.Run()
}

// The lease of the tests, and what they make of it.
const (
	leaseDuration = 4 * time.Second
	renewDeadline = 2500 * time.Millisecond
	retryPeriod   = 500 * time.Millisecond
	// takeoverLimit is the lease time, the time in which the others see that it was renewed
	// for the last time and in which they notice that it is over (client-go waits up to 2.2
	// retry periods each), and room for a machine that is busy with other things.
	takeoverLimit = leaseDuration + 4400*retryPeriod/1000 + 10*time.Second
	convergeLimit = 60 * time.Second
)

// rounds is how many times the leader is broken, in each test.
func rounds(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("FAILOVERS"))
	if err != nil {
		return 8
	}

	return n
}

func TestG5_TwoReplicasOneWriter(t *testing.T)   { failOver(t, 2) }
func TestG5_ThreeReplicasOneWriter(t *testing.T) { failOver(t, 3) }

// failOver has n replicas follow a repository that always changes and breaks the one that
// leads, each time in another way.
func failOver(t *testing.T, n int) {
	w := newWorld(t, n)
	t.Parallel()

	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)

	var took []time.Duration

	for round := range rounds(t) {
		b := breakages[round%len(breakages)]
		leader := w.leader(takeoverLimit)

		// It is broken while it writes.
		w.commit()
		w.reconcile(leader)
		w.pause(time.Duration(random.Int64N(int64(60 * time.Millisecond))))

		began := time.Now()
		mend := b.do(w, leader)
		next := w.leaderOtherThan(leader, takeoverLimit)
		took = append(took, time.Since(began))

		w.converged(next, fmt.Sprintf("round %d: %s of %s, then %s led", round, b.name, leader, next))
		mend()
		w.pause(time.Duration(random.Int64N(int64(time.Second))))
		w.healthy(leader)
	}

	slices.Sort(took)
	t.Logf("%d replicas, %d failovers, %d writes; another one led after %s (median), %s (longest); the lease lasts %s",
		n, len(took), w.judge.writes(), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), leaseDuration)
}

// breakage is a way to break the leader; mend undoes it.
type breakage struct {
	name string
	do   func(w *world, leader string) (mend func())
}

var breakages = []breakage{
	{"SIGKILL", func(w *world, leader string) func() {
		w.replicas[leader].kill()

		return func() { w.replicas[leader].start() }
	}},
	{"SIGSTOP", func(w *world, leader string) func() {
		w.replicas[leader].pause()

		return func() { w.replicas[leader].wake() } // it was paused in the middle of its work, and goes on with it
	}},
	{"a network that refuses", func(w *world, leader string) func() {
		w.replicas[leader].network.Cut()

		return func() { w.replicas[leader].network.Restore() }
	}},
	{"a network that swallows", func(w *world, leader string) func() {
		w.replicas[leader].network.Stall()

		return func() { w.replicas[leader].network.Restore() }
	}},
	{"SIGTERM", func(w *world, leader string) func() {
		w.replicas[leader].stop()

		return func() { w.replicas[leader].start() }
	}},
}

// TestG2_NewLeaderIsBehind has a replica take the lead that has not seen the newest commits:
// the clusters in them are not deleted as if they had left Git.
func TestG2_NewLeaderIsBehind(t *testing.T) {
	w := newWorld(t, 2)
	t.Parallel()

	for range min(rounds(t), 5) {
		leader := w.leader(takeoverLimit)

		w.addCluster()
		w.reconcile(leader)
		w.converged(leader, "the leader applied it")
		w.replicas[leader].kill()

		next := w.leaderOtherThan(leader, takeoverLimit)
		w.converged(next, "the next one leads")
		w.replicas[leader].start()
		w.healthy(leader)
	}
}

// TestNobodyLeadsWithoutKubernetes cuts all replicas off: nothing is written until one can
// be reached again, and then everything is.
func TestNobodyLeadsWithoutKubernetes(t *testing.T) {
	w := newWorld(t, 2)
	t.Parallel()

	leader := w.leader(takeoverLimit)
	w.converged(leader, "before")

	for _, r := range w.replicas {
		r.network.Cut()
	}

	w.pause(renewDeadline)

	before := w.judge.writes()

	w.commit()
	w.pause(leaseDuration)

	if now := w.judge.writes(); now != before {
		t.Errorf("%d writes by replicas that do not know who leads", now-before)
	}

	for _, r := range w.replicas {
		r.network.Restore()
	}

	w.reconcile(w.leader(takeoverLimit))
	w.converged(w.leader(takeoverLimit), "after")
}

// TestLeaderWithoutOmni cuts the leader off from Omni: it can do nothing and must not keep the
// others from doing it.
func TestLeaderWithoutOmni(t *testing.T) {
	w := newWorld(t, 2)
	t.Parallel()

	leader := w.leader(takeoverLimit)
	w.converged(leader, "before")
	w.replicas[leader].toOmni.Cut()
	w.commit()

	// What it knows of Omni counts as current for a minute after the watches broke.
	next := w.leaderOtherThan(leader, time.Minute+takeoverLimit)
	w.reconcile(next)
	w.converged(next, "the other one leads")
	w.replicas[leader].toOmni.Restore()
	w.healthy(leader)
}

func (w *world) pause(d time.Duration) {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()

	<-ctx.Done()
}
