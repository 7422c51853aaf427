package sync

import (
	"maps"
	"slices"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// record is one target: what people see of it, and the engine's memory.
type record struct {
	TargetStatus

	// stalled targets are tried again when something in Omni changes that they may
	// depend on.
	stalled bool
	// waits is set while the target waits, for whatever.
	waits bool
	// synced is the last revision that the target was Synced with. It tells drift from a
	// new revision.
	synced string
	// awaited is the revision that brought work and was not tried yet. A pass that began
	// with an older one settles nothing.
	awaited string
	// written remembers what was written lately, by signature, to notice somebody who
	// undoes it again and again. A new revision clears it.
	written map[string]attempt
	// refused is the signature of the phase that Omni refused, and refusal is why. It is
	// not sent again before something changes that the refusal may have been about.
	refused, refusal string
	// finishing is the signature of the deletion that Omni is left to end by itself, and
	// finishingSince is since when.
	finishing      string
	finishingSince time.Time
	// seen is the last look at the health, and movedAt is when something about it last
	// changed, or when something was written that Omni has to act on.
	seen    checkup
	movedAt time.Time
	// awaits is the checkup.config that a written configuration has yet to change; 0 if none.
	awaits uint64
	// reopened counts how often something changed that the target may have waited for. A
	// pass that began before the last time settles nothing.
	reopened uint64
	// requested is set while somebody asked for the target to be written to, until it is
	// Synced or a new revision comes.
	requested bool
	// guard is the digest of what a guard stopped and a confirmation would allow; "" if nothing. guarded is since when it
	// has stopped just that, in an undisturbed row.
	guard     string
	guarded   time.Time
	guardedAt disturbances
	// taken is when machines of the cluster left that stays, one each, within DeleteWindow.
	taken []time.Time
	// warned is set once people were told that a teardown takes long.
	warned bool
	// follows is set while the target is Synced, at rest and at the head of its source: it is
	// at the next one at once if that changes nothing for it.
	follows bool

	version uint64
}

// attempt is a write that was done times times, the last time at at.
type attempt struct {
	times int
	at    time.Time
}

// maxAttempts bounds how many different writes are remembered of a target.
const maxAttempts = 64

// ensure makes a target known.
func (b *board) ensure(key Key) { b.update(key, func(*record) {}) }

// pending notes that a revision brings work for a target, and forgets what the last one
// left behind. Revision stays the one that the target was compared with: Synced is never
// said of a revision that was not looked at.
func (b *board) pending(key Key, path, revision string) {
	b.update(key, func(r *record) {
		r.Path, r.Message, r.Settled = path, "waiting for its turn", false
		r.stalled, r.written, r.refused, r.awaited, r.requested, r.Cause = false, nil, "", revision, false, ""
	})
}

// planned takes the newest plan of a target.
func (b *board) planned(t *target, plan *diff.Plan) {
	plan = plan.WithoutMarks()

	b.update(t.Key, func(r *record) {
		r.Plan, r.Path, r.Revision, r.Leaving = plan, t.path(), t.from.revision, t.countdown
	})
}

// tearing notes whether a teardown is under way, and returns since when. first is set at
// the first call that finds it older than warnAfter.
func (b *board) tearing(key Key, underWay bool, warnAfter time.Duration) (since time.Time, first bool) {
	b.update(key, func(r *record) {
		switch {
		case !underWay:
			r.TeardownSince, r.warned = time.Time{}, false
		case r.TeardownSince.IsZero():
			r.TeardownSince = time.Now()
		}

		if underWay && !r.warned && time.Since(r.TeardownSince) >= warnAfter {
			r.warned, first = true, true
		}

		since = r.TeardownSince
	})

	return since, first
}

// started notes that the changes of a plan are being written.
func (b *board) started(key Key, plan *diff.Plan) {
	b.update(key, func(r *record) {
		if r.Operation != Running {
			r.Done = 0
		}

		r.Sync, r.Operation, r.Message, r.Settled, r.Cause = OutOfSync, Running, plan.Summary(), false, ""
		r.Total = r.Done + len(plan.Changes)
	})
}

// progress counts a write that came back.
func (b *board) progress(key Key) { b.update(key, func(r *record) { r.Done++ }) }

// wrote notes that a phase was written.
func (b *board) wrote(key Key, signature string, limit time.Duration) {
	b.update(key, func(r *record) {
		again := r.written[signature]
		if time.Since(again.at) > 2*limit {
			again.times = 0
		}

		// The map of an older copy of the record is left alone.
		written := maps.Clone(r.written)
		if written == nil || len(written) >= maxAttempts {
			written = map[string]attempt{}
		}

		written[signature] = attempt{again.times + 1, time.Now()}
		r.written = written

		// Something changed in Omni, so what was refused may be accepted now.
		r.stalled, r.refused = false, ""
	})
}

// backoff returns how long a phase that was written before has to wait: somebody undid
// it, and a fight is lost more slowly than it is fought.
func (r *record) backoff(signature string, least, limit time.Duration) time.Duration {
	again, ok := r.written[signature]
	if !ok || time.Since(again.at) > 2*limit {
		return 0
	}

	delay := limit
	if again.times < 20 { // 2^20 times any sensible delay is over any limit
		delay = min(least<<(again.times-1), limit)
	}

	return delay - time.Since(again.at)
}

// refuse notes that Omni refused a phase, and why. It counts while the target is stalled.
func (b *board) refuse(key Key, signature, why string) {
	b.update(key, func(r *record) { r.refused, r.refusal = signature, why })
}

// stalled returns the targets of a source that Omni refused.
func (b *board) stalled(source string) []Key {
	return slices.DeleteFunc(b.restless(source), func(key Key) bool { return !b.get(key).stalled })
}

// reopen notes that something changed that a target may have waited for: it is no longer
// settled, and what was refused may be sent again.
func (b *board) reopen(key Key) {
	b.update(key, func(r *record) { r.refused, r.Settled, r.reopened = "", false, r.reopened+1 })
}

// request notes that somebody asked for a target. What was written in vain before is no
// reason to wait.
func (b *board) request(key Key) {
	b.update(key, func(r *record) {
		r.requested, r.refused, r.written, r.Settled, r.reopened = true, "", nil, false, r.reopened+1
	})
}

// unread notes that nothing is known of a target while Omni cannot be read.
func (b *board) unread(t *target, reason string) {
	b.update(t.Key, func(r *record) { r.Sync, r.Message, r.Settled, r.Cause = Unknown, reason, false, "" })
}

// grace returns how much longer Omni is left alone with the end of a deletion; 0 if it
// had its time, or if there is none (finishing is "").
func (b *board) grace(key Key, finishing string, limit time.Duration) time.Duration {
	var left time.Duration

	b.update(key, func(r *record) {
		if r.finishing != finishing {
			r.finishing, r.finishingSince = finishing, time.Now()
		}

		if finishing != "" {
			left = limit - time.Since(r.finishingSince)
		}
	})

	return left
}

// answers reports whether a pass is about the revision that is awaited, which it notes to
// have come, and saw everything that changed in Omni meanwhile.
func (r *record) answers(t *target) bool {
	if r.awaited == t.from.revision {
		r.awaited = ""
	}

	return r.awaited == "" && r.reopened == t.reopened
}

// succeeded notes that a plan was empty: the one proof of being Synced.
func (b *board) succeeded(t *target) bool {
	return b.update(t.Key, func(r *record) {
		r.Sync, r.Message, r.Settled = Synced, "", r.answers(t)
		r.stalled, r.waits, r.synced, r.requested = false, false, t.from.revision, false

		if r.Operation != "" {
			r.Operation = Succeeded
		}
	})
}

// waiting notes what a target waits for, and reports whether that is worth a log line: a
// teardown changes what it waits for many times a second.
func (b *board) waiting(t *target, reason string, blocked bool) bool {
	var waited bool

	news := b.update(t.Key, func(r *record) {
		waited = r.waits
		r.Message, r.Settled, r.Revision = reason, r.answers(t) && blocked, t.from.revision
		r.stalled, r.waits = false, true

		if r.Plan != nil {
			r.Sync = OutOfSync
		}
	})

	return news && (blocked || !waited)
}

// failed notes that a pass failed; a stalled one ended for now.
func (b *board) failed(t *target, message string, stalled bool) bool {
	return b.update(t.Key, func(r *record) {
		r.Operation, r.Message, r.Settled, r.Revision = Failed, message, r.answers(t) && stalled, t.from.revision
		r.stalled, r.waits = stalled, false

		if r.Plan == nil || t.broken != nil {
			r.Sync = Unknown
		} else {
			r.Sync = OutOfSync
		}
	})
}

// reason says why something is written: the revision is new to the target, or somebody
// changed it in Omni.
func (b *board) reason(key Key) string {
	if r := b.get(key); r.synced == r.Revision {
		return reasonDrift
	}

	return "new revision"
}

// reasonDrift is the reason of a write that puts right what somebody else changed.
const reasonDrift = "drift in Omni"
