package sync

import (
	"sync"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// absences is what this process knows of what left Git. A restart forgets all of it but the [Ledger]: every time begins
// again, and a mark of another leader permits no teardown.
type absences struct {
	// taking lets one deletion at a time take from the budget.
	taking sync.Mutex

	mu   sync.Mutex
	gone map[ref]absence
	// begun are the unconfirmed deletions that were begun within window, by whichever shard.
	begun  map[begunKey]begun
	window time.Duration
	// lost is since when nobody knows what was begun before; the zero value: it is known.
	lost time.Time
	// ours are the IDs of the destroying marks that this process decided on, with the disturbances until then.
	ours map[string]disturbances
	// poked is when a source was last asked to look, because something waits for that.
	poked map[string]time.Time
}

// absence is how long one resource has been found gone.
type absence struct {
	// id is the mark that was seen, and since is when first, in an undisturbed row.
	id    string
	since time.Time
	// disturbed is the count of disturbances at that time.
	disturbed disturbances
	// void is the ID of a mark that means nothing any more: what it is on came back.
	void string
}

// disturbances counts what ends every wait: somebody else led, Omni or a source could not be read, the configuration or
// what is suspended changed.
type disturbances struct{ term, count uint64 }

// disturb has everything wait anew.
func (e *Engine) disturb() { e.disturbed.Add(1) }

// disturbances returns their count as of now.
func (e *Engine) disturbances() disturbances {
	now, _ := e.Leadership()

	return disturbances{now.Term, e.disturbed.Load()}
}

// begunKey is what was deleted. The same cluster counts once, however often it comes back.
type begunKey struct {
	source string
	ref    ref
}

// begun is under which mark it was deleted last, and when.
type begun struct {
	id string
	at time.Time
}

// maxOurs bounds how many marks are remembered (G12). Those that are forgotten permit no teardown: their time begins again.
const maxOurs = 10_000

func newAbsences(window time.Duration) *absences {
	return &absences{gone: map[ref]absence{}, begun: map[begunKey]begun{}, ours: map[string]disturbances{}, poked: map[string]time.Time{}, window: window}
}

// lasts returns how long a resource has been gone under a mark, by the monotonic clock, without a disturbance.
func (a *absences) lasts(key ref, id string, now disturbances) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()

	if known := a.gone[key]; known.id == id && known.disturbed == now {
		return time.Since(known.since)
	}

	a.gone[key] = absence{id: id, since: time.Now(), disturbed: now, void: a.gone[key].void}

	return 0
}

// interrupt has the time of a resource begin again.
func (a *absences) interrupt(key ref) {
	a.mu.Lock()
	defer a.mu.Unlock()

	if known, ok := a.gone[key]; ok && known.void == "" {
		delete(a.gone, key)
	} else if ok {
		a.gone[key] = absence{void: known.void}
	}
}

// back notes that Git describes a resource: the mark it may still carry means nothing, also if a lock keeps it there. It
// reports whether that is news.
func (a *absences) back(r resource.Resource) (news bool) {
	id := diff.DepartureOf(r).ID

	a.mu.Lock()
	defer a.mu.Unlock()

	delete(a.ours, id)

	news = a.gone[refOf(r)].void != id

	if id == "" {
		delete(a.gone, refOf(r))
	} else {
		a.gone[refOf(r)] = absence{void: id}
	}

	return news
}

func (a *absences) isVoid(key ref, id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()

	return id != "" && a.gone[key].void == id
}

// mayPoke reports whether a source may be asked to look again: not so often that a server that is down is flooded.
func (a *absences) mayPoke(source string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()

	if time.Since(a.poked[source]) < freshLook {
		return false
	}

	a.poked[source] = time.Now()

	return true
}

// begin notes that this process is about to write a destroying mark, and began tells whether it was, and whether nothing
// disturbed it since.
func (a *absences) begin(id string, now disturbances) {
	a.mu.Lock()
	defer a.mu.Unlock()

	if len(a.ours) >= maxOurs {
		clear(a.ours)
	}

	a.ours[id] = now
}

func (a *absences) began(id string, now disturbances) bool {
	a.mu.Lock()
	defer a.mu.Unlock()

	at, ok := a.ours[id]

	return ok && at == now
}

// decided reports whether this process decided on a destroying mark, whatever happened since: what somebody confirmed waits
// for nothing.
func (a *absences) decided(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()

	_, ok := a.ours[id]

	return ok
}

// end notes that a deletion that this process decided on is off: something stopped it.
func (a *absences) end(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()

	delete(a.ours, id)
}

// take notes an unconfirmed deletion if the budget allows it, and has that written down. One that was noted before is not
// noted twice. What cannot be written down is not begun.
func (a *absences) take(key begunKey, id string, allowed func() bool, keep func() error) (bool, error) {
	a.taking.Lock()
	defer a.taking.Unlock()

	if !allowed() {
		return false, nil
	}

	a.mu.Lock()
	before, known := a.begun[key]
	a.mu.Unlock()

	if !a.note(key, id) {
		return true, nil
	}

	if err := keep(); err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()

		// Or the next try would take it for written.
		if delete(a.begun, key); known {
			a.begun[key] = before
		}

		return false, err
	}

	return true, nil
}

// note counts a deletion that was begun, here or by another shard, and reports whether that is news.
func (a *absences) note(key begunKey, id string) (news bool) {
	a.mu.Lock()
	defer a.mu.Unlock()

	last, known := a.begun[key]
	if known && last.id == id {
		return false
	}

	a.begun[key] = begun{id, time.Now()}

	return true
}

// spent returns how many clusters, or fleet resources, of a source ("" for all of them) were begun to be destroyed
// lately without a confirmation, beside those that are counted already.
func (a *absences) spent(source string, clusters bool, counted map[ref]bool) int {
	a.mu.Lock()
	defer a.mu.Unlock()

	n := 0

	for key, last := range a.begun {
		switch {
		case time.Since(last.at) >= a.window:
			delete(a.begun, key)
		case (source == "" || key.source == source) && (key.ref.typ == omni.ClusterType) == clusters && !counted[key.ref]:
			n++
		}
	}

	return n
}
