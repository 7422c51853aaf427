package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/source"
)

const (
	// stuckAfter is how long nothing may happen while Omni is not what Git says and
	// nothing is in the daemon's way: more than the longest pause between two tries.
	stuckAfter = 90 * time.Second
	// look is the pause between two looks at something that has to happen.
	look = 20 * time.Millisecond
	// patientEvery is how many quiet points there are at least between two at which the
	// network is mended for new connections alone: the daemon has to notice by itself that
	// it listens to dead ones, which takes it the better part of a minute.
	patientEvery = 30
)

// quiet takes everything out of the daemon's way and waits until Omni is what Git says.
// Then it sets some traps.
func (w *world) quiet(ctx context.Context) {
	w.t.Helper()

	start := time.Now()
	w.calm(ctx)
	w.converge(ctx)
	w.probe(ctx, w.anyCluster())
	w.took("to converge", time.Since(start))
	w.quiets++
	w.note("quiet point %d: Omni was what Git says after %s", w.quiets, time.Since(start).Round(time.Millisecond))
	w.t.Log(w.done[len(w.done)-1])
	w.settle(ctx)

	for range trapsPerQuiet {
		w.trap(ctx)
	}

	w.backups = nil
	omniBackup(ctx, w, step{})
	w.lockSome(ctx)
}

// calm takes everything out of the daemon's way. Half of the time the last revision comes
// before that, so that nothing but the end of the trouble itself brings the daemon back.
func (w *world) calm(ctx context.Context) {
	w.omni.Faults().Clear()

	early := w.rng.IntN(2) == 0 && !w.proxy.faulty() // without Omni the daemon does not start
	if early {
		w.makeWhole(ctx)
		w.accepted(ctx)
	}

	if w.dead && w.quiets >= w.patient+patientEvery {
		w.patient = w.quiets
		w.must(w.proxy.mend())
		w.omni.Faults().DropWatches(embedded.Match{}) // a silent one may stay so for long
		w.tally("fault", "dead connections left for the daemon to notice")
	} else {
		w.must(w.proxy.heal(true)) // also the streams that Omni silenced
	}

	w.sighted()
	w.unlockAll(ctx)

	if !early {
		w.makeWhole(ctx)
	}

	// In one of four, what the daemon remembers is lost: what it needs is in Git and Omni.
	if w.rng.IntN(4) == 0 {
		w.daemon.signal(syscall.SIGKILL)
	}
}

// until waits for something that has to happen. It fails if nothing changes for long; what
// is missing says what there is to see.
func (w *world) until(ctx context.Context, what string, missing func() []string) {
	w.t.Helper()

	ticker := time.NewTicker(look)
	defer ticker.Stop()

	last, since := "", time.Now()

	for {
		now := missing()
		if len(now) == 0 {
			return
		}

		if text := strings.Join(now, "\n  "); text != last {
			last, since = text, time.Now()
		}

		if time.Since(since) > stuckAfter {
			w.fail("nothing is in its way, and nothing happens for %s: %s:\n  %s", stuckAfter, what, last)
		}

		select {
		case <-ticker.C:
		case <-ctx.Done():
			w.fail("%v while waiting: %s:\n  %s", ctx.Err(), what, last)
		}

		w.check(time.Now().Add(-shadowLag))
	}
}

// converge waits until Omni is what Git says.
func (w *world) converge(ctx context.Context) {
	w.t.Helper()
	w.until(ctx, "Omni is not what Git says", func() []string { return w.compare(ctx) })
}

// accepted waits until the daemon has the head of the branch.
func (w *world) accepted(ctx context.Context) {
	w.t.Helper()
	w.until(ctx, "the daemon does not have the revision", func() []string {
		if w.daemon.log.has(w.repo.hash) {
			return nil
		}

		return []string{w.repo.hash}
	})
}

// push commits the tree and waits until the daemon has it.
func (w *world) push(ctx context.Context) {
	w.t.Helper()
	w.must(w.repo.commit(ctx))
	w.accepted(ctx)
}

// makeWhole mends the revision. If more clusters are removed than may go, some of the time
// they come back, and some of the time somebody confirms that they go (see allow).
func (w *world) makeWhole(ctx context.Context) {
	t := w.repo.now
	t.mend()

	var gone []string

	for _, name := range slices.Sorted(maps.Keys(w.repo.seen)) {
		if t.clusters[name] == nil {
			gone = append(gone, name)
		}
	}

	if len(gone) > maxDelete && w.rng.IntN(2) == 0 {
		for _, name := range gone {
			t.add(name, w.rng.Uint64N(1<<16), w.rng.Uint64N(1<<16))
		}
	}

	w.must(w.repo.commit(ctx))
}

// settle looks back once more, and then forgets the past: no revision of before explains
// anything from now on.
func (w *world) settle(ctx context.Context) {
	w.t.Helper()
	wait(ctx, shadowLag+look)
	w.check(time.Now().Add(-shadowLag))
	w.repo.settle()

	w.mu.Lock()
	w.blind, w.dead = nil, false
	clear(w.known)
	clear(w.disowned)
	w.mu.Unlock()

	w.shadow.forget()
}

// settle forgets the past at a quiet point.
func (r *repo) settle() {
	r.heads = r.heads[len(r.heads)-1:]
	r.commits = r.commits[max(0, len(r.commits)-5):]
	r.seen = map[string]bool{}

	for name, c := range r.now.clusters {
		r.seen[name], c.moved = true, false
	}
}

// lockSome locks a cluster or two, lets the daemon see that, and commits a change to
// their templates: from then on every write to them is wrong, whatever comes.
func (w *world) lockSome(ctx context.Context) {
	names := w.repo.now.names()
	if n := min(w.rng.IntN(3), len(names)-1); n > 0 {
		w.lockClusters(ctx, w.some(names, n))
	}
}

// some draws n of the names.
func (w *world) some(names []string, n int) []string {
	names = slices.Clone(names)
	w.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })

	return names[:n]
}

func (w *world) lockClusters(ctx context.Context, names []string) {
	for _, name := range names {
		w.edit(ctx, omni.NewCluster(name), func(r resource.Resource) { r.Metadata().Annotations().Set(omni.ClusterLocked, "") })
	}

	// Changes of Clusters arrive in order: who undoes a later one knows the lock.
	w.probe(ctx, w.clusterBut(names))

	w.mu.Lock()
	for _, name := range names {
		w.known[name] = time.Now()
	}
	w.mu.Unlock()

	for _, name := range names {
		c := w.repo.now.clusters[name]
		c.note++
		c.patches = 1 + (c.patches+1)%3
		c.generation += w.rng.IntN(2)
	}

	w.push(ctx)
	w.note("locked before a change: %s", strings.Join(names, ", "))
	w.tally("trap", "cluster locked before a change")
}

// anyCluster draws a cluster that is in Git.
func (w *world) anyCluster() string { return w.clusterBut(nil) }

// clusterBut draws a cluster that is in Git and none of the names.
func (w *world) clusterBut(names []string) string {
	rest := slices.DeleteFunc(w.repo.now.names(), func(name string) bool { return slices.Contains(names, name) })

	return rest[w.rng.IntN(len(rest))]
}

// probe makes sure that the daemon has seen every change of a Cluster up to now: a label
// that the UI puts on one has to go.
func (w *world) probe(ctx context.Context, name string) {
	w.t.Helper()

	w.probes++
	w.undone(ctx, omni.NewCluster(name), fmt.Sprint("ui/probe-", w.probes))
}

// undone puts a label on a resource and waits until the daemon has taken it off.
func (w *world) undone(ctx context.Context, r resource.Resource, label string) {
	w.t.Helper()
	w.edit(ctx, r, func(r resource.Resource) { r.Metadata().Labels().Set(label, "") })
	w.until(ctx, "the daemon does not undo an edit of "+refOf(r).String(), func() []string {
		now, err := w.st.Get(ctx, r.Metadata())
		if state.IsNotFoundError(err) {
			return []string{"it is gone"}
		}

		w.must(err)

		if _, there := now.Metadata().Labels().Get(label); there {
			return []string{label}
		}

		return nil
	})
}

// compare says how Omni differs from the head of the branch.
func (w *world) compare(ctx context.Context) []string {
	var (
		all     []resource.Resource
		byRef   = map[ref]resource.Resource{}
		missing []string
		h       = w.repo.head()
	)

	for _, kind := range render.Kinds() {
		list, err := w.st.List(ctx, resource.NewMetadata(kind.Namespace, kind.Type, "", resource.VersionUndefined))
		w.must(err)

		for _, r := range list.Items {
			all = append(all, r)
			byRef[refOf(r)] = r
		}
	}

	for _, name := range slices.Sorted(maps.Keys(h.targets)) {
		target := h.targets[name].For(w.server())
		plan := diff.Compute(diff.Input{Source: sourceName, Target: name, Desired: target.Resources, Live: w.live(name, target, all, byRef), Place: diff.Place{Repository: source.Identity(w.repo.dir)}}).WithoutMarks()

		if plan = plan.WithoutMarks(); !plan.Empty() {
			var text strings.Builder

			w.must(diff.WriteText(&text, plan, diff.TextOptions{}))
			missing = append(missing, strings.TrimSpace(text.String()))
		}
	}

	for _, r := range all {
		switch {
		case diff.SourceOf(r) != sourceName || render.IsOfMachine(r.Metadata().Type()) || strings.HasPrefix(clusterOf(r), foreignPrefix):
		case diff.IsFleet(r) && !h.describes(refOf(r)):
			missing = append(missing, fmt.Sprintf("%s is ours and not in Git (%s)", refOf(r), w.allow(ctx, r)))
		case r.Metadata().Type() == omni.ClusterType && !h.describes(refOf(r)):
			missing = append(missing, fmt.Sprintf("%s is ours and not in Git (%s)", refOf(r), w.allow(ctx, r)))
		case diff.DepartureOf(r).State != "" && h.describes(refOf(r)):
			missing = append(missing, fmt.Sprintf("%s is in Git and still marked as %s", refOf(r), diff.DepartureOf(r).State))
		case !diff.IsFleet(r) && h.targets[clusterOf(r)] == nil:
			missing = append(missing, fmt.Sprintf("%s of %q is ours and not in Git", refOf(r), clusterOf(r)))
		}
	}

	return missing
}

// live is what a plan of the target has to know.
func (w *world) live(name string, target *render.Target, all []resource.Resource, byRef map[ref]resource.Resource) []resource.Resource {
	live := map[ref]resource.Resource{}

	for _, r := range all {
		if name == "" && diff.SourceOf(r) == sourceName && diff.IsFleet(r) || name != "" && clusterOf(r) == name {
			live[refOf(r)] = r
		}

		node := byRef[ref{omni.MachineSetNodeType, r.Metadata().ID()}]
		if render.IsOfMachine(r.Metadata().Type()) && node != nil && clusterOf(node) == name {
			live[refOf(r)] = r
		}
	}

	for _, want := range target.Resources {
		if r := byRef[refOf(want)]; r != nil {
			live[refOf(r)] = r
		}
	}

	return slices.Collect(maps.Values(live))
}
