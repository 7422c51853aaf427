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
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

const (
	// quietWithin is how long the daemon may take to make Omni what Git says once nothing
	// is in its way: the longest pause of a watch, that of a retry, and the work itself.
	quietWithin = 2 * time.Minute
	// quietLook is the pause between two looks at it.
	quietLook = 100 * time.Millisecond
)

// quiet takes everything out of the daemon's way and waits until Omni is what Git says.
func (w *world) quiet(ctx context.Context) {
	w.t.Helper()

	w.omni.Faults().Clear()
	w.must(w.proxy.heal(true)) // also the streams that Omni silenced
	w.sighted()
	w.unlockAll(ctx)
	w.must(w.makeWhole(ctx))

	// In one of three, what the daemon remembers is lost: what it needs is in Git and Omni.
	if w.rng.IntN(3) == 0 {
		w.daemon.signal(syscall.SIGKILL)
	}

	start := time.Now()
	ticker := time.NewTicker(quietLook)

	defer ticker.Stop()

	for {
		missing := w.compare(ctx)
		if len(missing) == 0 {
			break
		}

		if time.Since(start) > quietWithin {
			w.fail("no fault is left, and after %s Omni is not what Git says:\n  %s", quietWithin, strings.Join(missing, "\n  "))
		}

		select {
		case <-ticker.C:
		case <-ctx.Done():
			w.fail("not done at a quiet point: %v\n  %s", ctx.Err(), strings.Join(missing, "\n  "))
		}

		w.check(time.Now().Add(-shadowLag))
	}

	w.probe(ctx)
	wait(ctx, 2*shadowLag)
	w.check(time.Now().Add(-shadowLag))
	w.quiets++
	w.done = append(w.done, fmt.Sprintf("%s quiet point %d after %s", time.Now().Format("15:04:05.000"), w.quiets, time.Since(start).Round(time.Millisecond)))
	w.t.Log(w.done[len(w.done)-1])

	// What was before is of no more consequence: no revision and no backup of before
	// explains anything from now on.
	w.repo.settle()
	w.backups = nil
	omniBackup(ctx, w, step{})
	w.lockOne(ctx)
}

// makeWhole mends the revision. At most one cluster stays removed: of more, the daemon
// keeps all, and the test wants to know that Git and Omni agree.
func (w *world) makeWhole(ctx context.Context) error {
	t := w.repo.now
	t.mend()

	var gone []string

	for _, name := range slices.Sorted(maps.Keys(w.repo.seen)) {
		if t.clusters[name] == nil {
			gone = append(gone, name)
		}
	}

	if len(gone) > maxDelete {
		for _, name := range gone {
			t.add(name, w.rng.Uint64N(1<<16), w.rng.Uint64N(1<<16))
		}
	}

	return w.repo.commit(ctx)
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

// lockOne locks a cluster half of the time (it was probed a moment ago), and lets the daemon see that before a commit
// changes its template: from then on every write to it is wrong, whatever comes.
func (w *world) lockOne(ctx context.Context) {
	s := step{a: w.rng.Uint64N(1 << 16), b: w.rng.Uint64N(1 << 16), name: "lock and change"}
	if s.b%2 == 0 {
		return
	}

	detail := uiLockCluster(ctx, w, s)
	wait(ctx, grace+shadowLag)

	name := strings.TrimPrefix(detail, "Cluster ")
	if c := w.repo.now.clusters[name]; c != nil {
		c.note++
		c.patches = 1 + (c.patches+1)%3
		w.must(w.repo.commit(ctx))
		w.seen.underLock++
	}

	w.done = append(w.done, fmt.Sprintf("%s %s: %s", time.Now().Format("15:04:05.000"), s, detail))
}

// probe makes sure that the daemon sees what changes in clusters again: a label that the UI
// puts on one has to go. From then on nothing excuses a write that ignores a lock.
func (w *world) probe(ctx context.Context) {
	name, _ := w.repo.now.choose(w.rng.Uint64N(1 << 16))
	label := fmt.Sprint("ui/probe-", w.quiets)
	md := omni.NewCluster(name).Metadata()

	w.edit(ctx, omni.NewCluster(name), func(r resource.Resource) { r.Metadata().Labels().Set(label, "") })

	bounded, cancel := context.WithTimeout(ctx, quietWithin)
	defer cancel()

	_, err := w.st.WatchFor(bounded, md, state.WithCondition(func(r resource.Resource) (bool, error) {
		_, there := r.Metadata().Labels().Get(label)

		return !there, nil
	}))
	if err != nil {
		w.fail("the daemon does not undo an edit of Cluster %s: %v", name, err)
	}

	w.mu.Lock()
	defer w.mu.Unlock()

	w.blind = nil
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
		target := h.targets[name]
		plan := diff.Compute(diff.Input{Source: sourceName, Target: name, Path: target.Path, Desired: target.Resources, Live: w.live(name, target, all, byRef)})

		if !plan.Empty() {
			var text strings.Builder

			w.must(diff.WriteText(&text, plan, diff.TextOptions{}))
			missing = append(missing, strings.TrimSpace(text.String()))
		}
	}

	for _, r := range all {
		switch {
		case diff.SourceOf(r) != sourceName || r.Metadata().Type() == omni.KernelArgsType:
		case diff.IsFleet(r) && h.targets[""] == nil:
			missing = append(missing, refOf(r).String()+" is ours and not in Git")
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
	}

	for _, want := range target.Resources {
		if r := byRef[refOf(want)]; r != nil {
			live[refOf(r)] = r
		}
	}

	return slices.Collect(maps.Values(live))
}
