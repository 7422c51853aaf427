package sync

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// desired is one accepted revision.
type desired struct {
	revision string
	author   string
	message  string
	files    fs.FS
	// whole says that every file of the revision could be read and that it holds
	// templates: only then does a missing template mean that it was taken out (G2).
	whole   bool
	targets map[string]*render.Target
	// broken holds the targets of the revision that cannot be used, and why.
	broken map[string]error
	// fleetPending is set while the fleet resources of the revision were not tried yet:
	// clusters may need them (a MachineClass), so clusters are held back that long.
	fleetPending atomic.Bool

	mu sync.Mutex
	// left are the clusters that were found to have left Git with this revision. It only
	// grows: what maxDelete forbids is not allowed one by one (G11).
	left map[string]bool
}

// wants reports whether the revision describes a target, if only in a broken file.
func (d *desired) wants(name string) bool { return d.targets[name] != nil || d.broken[name] != nil }

// target is one unit of work, as it stands when a worker takes it.
type target struct {
	Key

	src  *sourceState
	from *desired
	// reopened is the record's count when the pass began.
	reopened uint64
	desired  *render.Target // nil when the target is not in Git
	broken   error
	// policy and keep (why what left Git must not be destroyed; "" if it may) are decided
	// together with the look at Omni (Engine.live).
	policy Policy
	keep   string
	// unconfirmed is set if keep ends when somebody confirms it.
	unconfirmed bool
	// letGo is set when another source describes what left this one.
	letGo bool
	// moved are the fleet resources that other sources describe.
	moved []resource.Resource
	live  []resource.Resource
}

func (t *target) input(live []resource.Resource) diff.Input {
	in := diff.Input{Source: t.Source, Target: t.Target, Path: t.path(), Live: live, Removed: t.desired == nil, LetGo: t.letGo, Keep: t.keep, KeepParts: t.policy.KeepParts, PruneForeign: t.src.PruneForeign}
	if t.desired != nil {
		in.Desired = t.desired.Resources
	}

	in.Moved = t.moved

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
	if done := e.sources.use(src); done != nil {
		defer done()
	} else {
		return
	}

	// It is said once, not at every look that ends the same.
	if e.board.source(src.Name).Error != err.Error() {
		e.Logger.Warn("source failed", zap.String("source", src.Name), zap.Error(err))
	}

	e.board.updateSource(src.Name, func(s *SourceStatus) { s.Error = err.Error(); s.Fetched = true })
}

// accept takes what a revision renders to as the desired state of a source and queues
// every target that it changes.
func (e *Engine) accept(src *sourceState, revision source.Revision, read *reading) {
	if done := e.sources.use(src); done != nil {
		defer done()
	} else {
		return
	}

	previous := src.desired.Load()
	if previous == nil {
		previous = &desired{}
	}

	next := &desired{
		revision: revision.ID,
		author:   revision.Author,
		message:  revision.Message,
		files:    revision.FS,
		whole:    len(read.problems) == 0 && len(read.targets) > 0,
		targets:  make(map[string]*render.Target, len(read.targets)),
		left:     map[string]bool{},
	}

	for _, t := range read.targets {
		next.targets[t.Name] = t
	}

	next.broken = brokenTargets(read.set, next.targets, read.problems)
	next.fleetPending.Store(e.Shard.Owns("") && (previous.fleetPending.Load() || changed(previous.targets[""], next.targets[""]) ||
		previous.targets[""] != nil && !next.wants("")))

	src.desired.Store(next)
	e.announce(src, revision, len(read.targets), read.problems)

	// Every target gets a status before the source counts as fetched, so that nobody who
	// waits for the source to settle sees it half done.
	if next.same(previous) {
		// The source works again: nothing is forgotten. Passes that are under way still write
		// to the map of the old reading.
		previous.mu.Lock()
		maps.Copy(next.left, previous.left)
		previous.mu.Unlock()
	} else {
		for _, key := range e.affected(src, previous, next) {
			e.queue.Forget(key) // a new revision is tried at once, whatever the backoff was
			e.queue.Add(key)
		}
	}

	e.board.updateSource(src.Name, func(s *SourceStatus) { s.Error = "" }) // before others look at it
	e.queueRemoved(src)
	e.queueMoved(src)
	e.board.updateSource(src.Name, func(s *SourceStatus) {
		s.Fetched, s.Error, s.Revision, s.Problems = true, "", revision.ID, read.problems
	})
}

// announce logs a revision and what is wrong with it.
func (e *Engine) announce(src *sourceState, revision source.Revision, targets int, problems template.Problems) {
	log := e.Logger.With(zap.String("source", src.Name), zap.String("revision", revision.ID))

	if before := e.board.source(src.Name); before.Revision == revision.ID && before.Error != "" {
		log.Info("source works again")

		return
	}

	fields := []zap.Field{zap.Int("targets", targets)}
	if revision.Author != "" {
		fields = append(fields, zap.String("author", revision.Author), zap.String("message", revision.Message))
	}

	log.Info("new revision", fields...)

	for _, problem := range problems {
		log.Warn("problem in the revision", zap.Error(problem))
	}
}

// affected notes the new revision with every target of a source and returns those that
// it brings work for: what changed, what left, what is broken, and what was not done yet.
func (e *Engine) affected(src *sourceState, previous, next *desired) []Key {
	var keys []Key

	for name, t := range next.targets {
		if !e.Shard.Owns(name) {
			continue
		}

		key := Key{src.Name, name}
		if changed(previous.targets[name], t) || !e.board.carryOver(key, next.revision) {
			e.board.pending(key, t.Path, next.revision)
			keys = append(keys, key)
		}
	}

	for name := range next.broken {
		if e.Shard.Owns(name) {
			e.board.ensure(Key{src.Name, name})
		}
	}

	for _, key := range e.board.keys(src.Name) {
		if next.targets[key.Target] == nil {
			e.board.pending(key, "", next.revision)
			keys = append(keys, key)
		}
	}

	return keys
}

// same reports whether two revisions are one, read twice.
func (d *desired) same(other *desired) bool {
	if d.revision != other.revision || len(d.targets) != len(other.targets) || len(d.broken) != len(other.broken) {
		return false
	}

	for name, t := range d.targets {
		if other.targets[name] == nil || other.targets[name].Digest != t.Digest {
			return false
		}
	}

	return true
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
			if problem.File == path || problem.Other.File == path { // it may be in a file that the template refers to
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
	d := src.desired.Load()
	if d == nil || e.Snapshot.Err() != nil {
		return // asked again by the first revision, and when the snapshot is ready
	}

	var keys []Key

	for _, cluster := range e.removedClusters(src, d) {
		keys = append(keys, Key{src.Name, cluster.Metadata().ID()})
	}

	if !d.wants("") && len(e.liveFleet(&target{Key: Key{Source: src.Name}})) > 0 {
		keys = append(keys, Key{src.Name, ""})
	}

	for _, key := range keys {
		if e.Shard.Owns(key.Target) {
			e.board.ensure(key)
			e.queue.Add(key)
		}
	}
}

// removedClusters returns the live clusters of a source that a revision does not have.
func (e *Engine) removedClusters(src *sourceState, d *desired) []resource.Resource {
	var removed []resource.Resource

	for _, cluster := range e.Snapshot.Tagged(clustersOf(src.Name)) {
		if !d.wants(cluster.Metadata().ID()) {
			removed = append(removed, cluster)
		}
	}

	return removed
}

// lookup returns the target behind a key as it stands now; nil before the first revision
// of its source, and after the source was taken out of the configuration.
func (e *Engine) lookup(key Key) *target {
	src := e.sources.get(key.Source)
	if src == nil {
		return nil
	}

	d := src.desired.Load()
	if d == nil {
		return nil
	}

	return &target{
		Key: key, src: src, from: d, reopened: e.board.get(key).reopened,
		desired: d.targets[key.Target], broken: d.broken[key.Target],
	}
}

// superseded reports whether a newer revision or configuration came since a target was
// looked up.
func (e *Engine) superseded(t *target) bool {
	return e.sources.get(t.Source) != t.src || t.src.desired.Load() != t.from
}

// keep says why what left Git must not be destroyed, and "" if it may (G2, G11). It is
// to be asked only while the snapshot is ready.
func (e *Engine) keep(t *target) string {
	t.unconfirmed = false

	switch {
	case !t.src.Prune:
		return "prune is off for this source"
	case !t.from.whole:
		return "the revision is not whole: it holds no templates, or some of its files have problems"
	case e.unread(t) != "":
		return e.unread(t) + ", and what left this one may have moved there"
	case t.desired != nil || t.Target == "":
		return ""
	case t.policy.Protected:
		return "it is protected; say " + AnnotationDeletion + ": allowed in its template before you remove that"
	}

	if path := e.leftBehind(t); path != "" {
		return path + " is still there, but it is no template any more; remove the file to delete the cluster"
	}

	t.from.mu.Lock()
	defer t.from.mu.Unlock()

	for _, cluster := range e.removedClusters(t.src, t.from) {
		if cluster.Metadata().Phase() == resource.PhaseRunning {
			t.from.left[cluster.Metadata().ID()] = true
		}
	}

	why := t.src.tooMany(t.from.left)
	t.unconfirmed = why != ""

	return why
}

// leftBehind returns the file that the template of a cluster was in if the revision still
// has it and it is no template any more: emptied, half saved, in another encoding. That
// is an accident until somebody removes the file.
func (e *Engine) leftBehind(t *target) string {
	cluster, ok := e.Snapshot.Get(omni.ClusterType, t.Target)
	if !ok {
		return ""
	}

	path, _ := cluster.Metadata().Annotations().Get(diff.MarkPath)
	if path == "" {
		return ""
	}

	for _, other := range t.from.targets {
		if other.Path == path {
			return "" // it is the template of another cluster now: a rename
		}
	}

	if _, err := fs.Stat(t.from.files, path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return ""
	}

	return path
}
