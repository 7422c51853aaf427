package sync

import (
	"maps"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

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

	e.disturb()
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

	first := previous == nil
	if first {
		previous = &desired{}
	}

	next := &desired{
		revision: revision.ID,
		author:   revision.Author,
		message:  revision.Message,
		files:    revision.FS,
		whole:    len(read.problems) == 0,
		place:    placeOf(&src.SourceConfig, &revision),
		commit:   revision.Commit,
		folder:   revision.Folder,
		rewound:  revision.Forced,
		astray:   revision.Forced || previous.astray,
		opaque:   read.set.Opaque,
		targets:  read.targets,
		broken:   brokenTargets(read.set, read.targets, read.problems),
	}

	if !next.whole {
		e.disturb()
	}

	changed, gone := next.since(previous)
	if first { // of this scope: an older one may have left targets behind
		for _, key := range e.board.keys(src.Name) {
			gone = append(gone, key.Target)
		}

		gone = slices.DeleteFunc(gone, next.wants)
	}

	again := next.revision == previous.revision && len(changed)+len(gone) == 0 && len(next.broken) == len(previous.broken)

	next.fleetPending.Store(e.Shard.Owns("") && (previous.fleetPending.Load() || slices.Contains(changed, "") ||
		previous.targets.get("") != nil && !next.wants("")))

	src.desired.Store(next)
	e.returned(src.Name, next)
	e.announce(src, revision, len(read.targets), read.problems)

	// Every target gets a status before the source counts as fetched, so that nobody who
	// waits for the source to settle sees it half done.
	if !again {
		for _, key := range e.affected(src, next, slices.Concat(changed, gone)) {
			e.queue.Forget(key) // a new revision is tried at once, whatever the backoff was
			e.queue.Add(key)
		}
	}

	// After a forced push, unchanged targets still carry a commit of the old history: plan them too, to stamp the new one ([Engine.lost]).
	if revision.Forced {
		e.queueSource(src)
	}

	e.board.updateSource(src.Name, func(s *SourceStatus) { s.Error = "" }) // before others look at it

	// What left before is restless, or in Omni only. The same revision read once more may have been read in part before:
	// then it was no reason to destroy what left.
	if first || again || len(gone) > 0 {
		e.queueRemoved(src)
	}

	// A pass that ends while a revision is taken up tells the one before that its fleet resources were tried.
	if next.fleetPending.Load() {
		e.queue.Add(Key{src.Name, ""})
	}

	e.queueMoved(src, gone)
	e.board.updateSource(src.Name, func(s *SourceStatus) {
		s.Fetched, s.Error, s.Revision, s.Problems = true, "", revision.ID, read.problems
	})
}

// returned notes what carries the mark of something that left Git and is there again. The pass of its target would come
// too late: the next revision may be there by then; and it does not come at all while the template is refused.
func (e *Engine) returned(source string, d *desired) {
	for _, tag := range []string{clustersOf(source), fleetOf(source)} {
		for _, r := range e.Snapshot.Tagged(tag) {
			if diff.DepartureOf(r).State != "" && d.has(r) {
				e.noteBack(r)
			}
		}
	}
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

// affected notes a new revision with every target of a source and returns those that it
// brings work for: what it changed, what is broken, and what was not done yet.
func (e *Engine) affected(src *sourceState, next *desired, changed []string) []Key {
	affected := map[Key]bool{}

	pending := func(key Key) {
		if affected[key] || !e.Shard.Owns(key.Target) {
			return
		}

		path := ""
		if t := next.targets.get(key.Target); t != nil {
			path = t.Path
		}

		e.board.pending(key, path, next.revision)
		affected[key] = true
	}

	for _, name := range changed {
		if key := (Key{src.Name, name}); next.targets.get(name) != nil || e.board.has(key) {
			pending(key)
		}
	}

	for name := range next.broken {
		pending(Key{src.Name, name})
	}

	for _, key := range e.board.advance(src.Name, next.revision) {
		pending(key)
	}

	return slices.Collect(maps.Keys(affected))
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
