package sync

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"k8s.io/utils/keymutex"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

// markPrefix begins the name of every annotation that says whose a resource is and what is to become of it.
const markPrefix = "omni-syncd/"

// lookWithin bounds a look: an answer that comes later may have been held back on the way.
const lookWithin = 5 * time.Second

// look asks Omni, before a write, whether what the plan took for granted still is so: the lock and the marks of the
// target's cluster (G8, G1), or the marks of the fleet resource that is updated. A watch may have died without a word,
// and an idle one looks the same. Omni's answer counts for [omni.Fresh] for all writes to the cluster, and so does an
// own write to its Cluster, which asks the same by itself: an update carries the version that it was planned from, and
// nothing is created twice.
func (e *Engine) look(ctx context.Context, t *target, change *diff.Change) error {
	if t.Target == "" {
		if err := e.lookAround(ctx, t, change); err != nil {
			return err
		}

		if change.Action == diff.Destroy || change.Old == nil {
			return nil // send looks, and there is nothing to look at
		}

		return verdict(t, change, e.stillThere(ctx, change.Old))
	}

	planned := t.cluster()
	if planned == nil || t.isCluster(change) && change.Action != diff.Destroy {
		return nil
	}

	// The other writes of the phase wait for the answer.
	id := t.Source + "/" + t.Target
	e.looks.one.LockKey(id)
	defer e.looks.one.UnlockKey(id) //nolint:errcheck // it is nil

	if t.looked == nil && !e.looks.recent(t.Key) {
		t.looked = e.lookAt(ctx, t.Key, planned)
	}

	return t.looked
}

// lookAround looks at the cluster that a fleet resource is part of: its lock holds for that, too.
func (e *Engine) lookAround(ctx context.Context, t *target, change *diff.Change) error {
	for _, r := range []resource.Resource{change.Old, change.New} {
		if r == nil {
			continue
		}

		for _, to := range e.reaches(r) {
			key := Key{t.Source, to.cluster}
			if cluster, ok := e.Snapshot.Get(omnires.ClusterType, key.Target); ok && !e.looks.recent(key) {
				if err := e.lookAt(ctx, key, cluster); err != nil {
					return err
				}
			}
		}
	}

	return nil
}

// refused looks after Omni did not take a write to the target's Cluster itself, and returns what it found, or nil. It may
// have been locked, or be another's, and the next plan has to know although the watch is silent.
func (e *Engine) refused(ctx context.Context, t *target, change *diff.Change, err error) error {
	if planned := t.cluster(); planned != nil && t.isCluster(change) && (omni.Conflict(err) || omni.Rejected(err)) {
		return e.lookAt(ctx, t.Key, planned)
	}

	return nil
}

// lookAt reads a target's Cluster and compares it with what a plan was made from.
func (e *Engine) lookAt(ctx context.Context, key Key, planned resource.Resource) error {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()

	held, _ := e.Snapshot.Get(omnires.ClusterType, key.Target)

	now, err := e.State.Get(ctx, planned.Metadata())
	if err != nil && !omni.NotFound(err) {
		return classified(err, "read", diff.Kind(omnires.ClusterType)+" "+key.Target)
	}

	e.Snapshot.Read(held, now) // the next plan is made from that, although the watch lags

	if what := changedTo(planned, now); what != "" {
		return &RetryError{Err: errors.New("the cluster " + what + " meanwhile"), Expected: true}
	}

	e.looks.note(key)

	return nil
}

// changedTo says what happened to a Cluster since a plan was made from it; "" if nothing did that matters to the plan.
func changedTo(planned, now resource.Resource) string {
	switch {
	case now == nil:
		return "went"
	case !sameLife(now.Metadata(), planned.Metadata()):
		return "was made anew"
	case now.Metadata().Phase() != planned.Metadata().Phase():
		return "began to be destroyed"
	case hasLock(now) != hasLock(planned):
		return "was locked"
	case !maps.Equal(marksOf(now), marksOf(planned)):
		return "changed hands"
	default:
		return ""
	}
}

func hasLock(cluster resource.Resource) bool {
	_, locked := cluster.Metadata().Annotations().Get(omnires.ClusterLocked)

	return locked
}

// marksOf returns the annotations that begin with markPrefix.
func marksOf(r resource.Resource) map[string]string {
	marks := map[string]string{}

	for key, value := range r.Metadata().Annotations().Raw() {
		if strings.HasPrefix(key, markPrefix) {
			marks[key] = value
		}
	}

	return marks
}

// cluster returns the Cluster that the plan was made from, nil if there was none.
func (t *target) cluster() resource.Resource {
	for _, r := range t.live {
		if md := r.Metadata(); md.Type() == omnires.ClusterType && md.ID() == t.Target {
			return r
		}
	}

	return nil
}

// isCluster reports whether a change is one of the target's Cluster itself.
func (t *target) isCluster(change *diff.Change) bool {
	md := change.Metadata()

	return md.Type() == omnires.ClusterType && md.ID() == t.Target
}

// looks remember for a moment of which targets Omni has just said, or been told, what their Cluster is.
type looks struct {
	one keymutex.KeyMutex // at a time looks at a target

	mu sync.Mutex
	at map[Key]time.Time
}

func newLooks() *looks { return &looks{one: keymutex.NewHashed(4096), at: map[Key]time.Time{}} }

func (l *looks) note(key Key) {
	l.mu.Lock()
	defer l.mu.Unlock()

	maps.DeleteFunc(l.at, func(_ Key, at time.Time) bool { return time.Since(at) > omni.Fresh })
	l.at[key] = time.Now()
}

func (l *looks) recent(key Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	at, ok := l.at[key]

	return ok && time.Since(at) <= omni.Fresh
}
