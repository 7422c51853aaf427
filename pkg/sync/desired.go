package sync

import (
	"fmt"
	"slices"
	"sync"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// sourceState is what a source says should be. The lock is held for map lookups only,
// never over I/O.
type sourceState struct {
	SourceConfig

	renderer *render.Renderer

	mu       sync.Mutex
	revision source.Revision
	// whole says that every file of the revision could be read and that it holds
	// templates: only then does a missing template mean that it was taken out (G2).
	whole   bool
	targets map[string]*render.Target
	// broken holds the targets of the revision that cannot be used, and why.
	broken map[string]error
	// fleetFirst is set while the fleet resources of a new revision were not tried yet:
	// clusters may need them (a MachineClass), so clusters are held back that long.
	fleetFirst bool
}

// target is one unit of work, as it stands when a worker takes it.
type target struct {
	Key

	desired  *render.Target // nil when the target is not in Git
	revision string
	broken   error
	// keep says why what left Git must not be destroyed; "" if it may.
	keep string
}

func (t *target) input(live []resource.Resource) diff.Input {
	in := diff.Input{Source: t.Source, Target: t.Target, Live: live, Removed: t.desired == nil, Keep: t.keep}
	if t.desired != nil {
		in.Desired = t.desired.Resources
	}

	return in
}

func (t *target) path() string {
	if t.desired == nil {
		return ""
	}

	return t.desired.Path
}

// failed notes that a source could not be fetched. What it said last stays in force (G2).
func (e *Engine) failed(src *sourceState, err error) {
	e.Logger.Warn("source failed", zap.String("source", src.Name), zap.Error(err))
	e.board.updateSource(src.Name, func(s *SourceStatus) { s.Error = err.Error(); s.Fetched = true })
}

// accept takes what a revision renders to as the desired state of a source and queues
// every target that it changes.
func (e *Engine) accept(src *sourceState, revision source.Revision, set *template.Set, targets []*render.Target, problems template.Problems) {
	next := make(map[string]*render.Target, len(targets))
	for _, t := range targets {
		next[t.Name] = t
	}

	src.mu.Lock()
	previous := src.targets
	src.revision, src.targets = revision, next
	src.whole = len(problems) == 0 && len(targets) > 0
	src.broken = brokenTargets(set, next, problems)
	src.fleetFirst = changed(previous[""], next[""])
	broken := src.broken
	src.mu.Unlock()

	fields := []zap.Field{zap.String("source", src.Name), zap.String("revision", revision.ID), zap.Int("targets", len(targets))}
	if revision.Author != "" {
		fields = append(fields, zap.String("author", revision.Author), zap.String("message", revision.Message))
	}

	e.Logger.Info("new revision", fields...)

	for _, problem := range problems {
		e.Logger.Warn("problem in the revision", zap.String("source", src.Name), zap.String("revision", revision.ID), zap.Error(problem))
	}

	// Every target gets a status before the source counts as fetched, so that nobody who
	// waits for the source to settle sees it half done.
	for name, t := range next {
		key := Key{src.Name, name}
		if changed(previous[name], t) || !e.board.synced(key) {
			e.board.pending(key, t.Path, revision.ID)
			e.queue.Forget(key) // a new revision is tried at once, whatever the backoff was
			e.queue.Add(key)
		} else {
			e.board.revision(key, revision.ID)
		}
	}

	for name := range broken {
		e.board.pending(Key{src.Name, name}, "", revision.ID)
		e.queue.Add(Key{src.Name, name})
	}

	for name := range previous {
		if next[name] == nil {
			e.board.pending(Key{src.Name, name}, "", revision.ID)
			e.queue.Add(Key{src.Name, name})
		}
	}

	if previous == nil {
		e.queueSource(src) // what was noticed in Omni before
	}

	e.queueRemoved(src)
	e.board.updateSource(src.Name, func(s *SourceStatus) {
		s.Fetched, s.Error, s.Revision, s.Problems = true, "", revision.ID, problems
	})
}

func changed(previous, next *render.Target) bool {
	return next != nil && (previous == nil || previous.Digest != next.Digest)
}

// brokenTargets returns the targets that were found and cannot be rendered, with the
// first problem of each.
func brokenTargets(set *template.Set, targets map[string]*render.Target, problems template.Problems) map[string]error {
	broken := map[string]error{}

	add := func(name, path string) {
		if targets[name] != nil || broken[name] != nil {
			return
		}

		broken[name] = fmt.Errorf("%s: the file has problems", path)

		for _, problem := range problems {
			if problem.File == path {
				broken[name] = problem

				return
			}
		}
	}

	for _, t := range set.Templates {
		if t.Name != "" {
			add(t.Name, t.Path)
		}
	}

	for _, m := range set.Manifests {
		if len(m.Problems) > 0 || mentions(problems, m.Path) {
			add("", m.Path)
		}
	}

	return broken
}

func mentions(problems template.Problems, path string) bool {
	return slices.ContainsFunc(problems, func(p template.Problem) bool { return p.File == path })
}

// queueRemoved queues what carries the mark of a source and is not in its revision. It
// finds it in Omni, not in memory, so that a restart forgets nothing (G10).
func (e *Engine) queueRemoved(src *sourceState) {
	if e.Snapshot.Err() != nil {
		return // asked again when the snapshot is ready
	}

	var keys []Key

	for _, cluster := range e.removedClusters(src) {
		keys = append(keys, Key{src.Name, cluster.Metadata().ID()})
	}

	if !src.wants("") && len(e.liveFleet(&target{Key: Key{Source: src.Name}})) > 0 {
		keys = append(keys, Key{src.Name, ""})
	}

	for _, key := range keys {
		e.board.ensure(key)
		e.queue.Add(key)
	}
}

// removedClusters returns the live clusters of a source that its revision does not have.
func (e *Engine) removedClusters(src *sourceState) []resource.Resource {
	var removed []resource.Resource

	for _, cluster := range e.Snapshot.List(omni.ClusterType) {
		if diff.SourceOf(cluster) == src.Name && !src.wants(cluster.Metadata().ID()) {
			removed = append(removed, cluster)
		}
	}

	return removed
}

// wants reports whether the last revision describes a target, if only in a broken
// template. Before the first revision everything counts as wanted.
func (src *sourceState) wants(name string) bool {
	src.mu.Lock()
	defer src.mu.Unlock()

	return src.targets == nil || src.targets[name] != nil || src.broken[name] != nil
}

// lookup returns the target behind a key as it stands now; nil before the first revision.
func (e *Engine) lookup(key Key) *target {
	src := e.sources[key.Source]

	src.mu.Lock()
	fetched := src.targets != nil
	t := &target{Key: key, desired: src.targets[key.Target], revision: src.revision.ID, broken: src.broken[key.Target]}
	src.mu.Unlock()

	if !fetched {
		return nil
	}

	t.keep = e.keep(src, t)

	return t
}

// keep says why what left Git must not be destroyed, and "" if it may (G2, G11).
func (e *Engine) keep(src *sourceState, t *target) string {
	src.mu.Lock()
	whole := src.whole
	src.mu.Unlock()

	switch {
	case !src.Prune:
		return "prune is off for this source"
	case !whole:
		return "the revision is not whole: it holds no templates, or some of its files have problems"
	case t.desired != nil || t.Target == "":
		return ""
	}

	leaving := 0

	for _, cluster := range e.removedClusters(src) {
		if cluster.Metadata().Phase() == resource.PhaseRunning {
			leaving++
		}
	}

	if leaving > src.MaxDelete {
		return fmt.Sprintf("%d clusters left Git at once, maxDelete allows %d", leaving, src.MaxDelete)
	}

	return ""
}

// heldBack reports whether a cluster has to let the fleet resources of its revision go first.
func (src *sourceState) heldBack(t *target) bool {
	src.mu.Lock()
	defer src.mu.Unlock()

	return t.Target != "" && src.fleetFirst
}

// fleetTried lets the clusters of a source go on; it reports whether they were held back.
func (src *sourceState) fleetTried() bool {
	src.mu.Lock()
	defer src.mu.Unlock()

	held := src.fleetFirst
	src.fleetFirst = false

	return held
}
