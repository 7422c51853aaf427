package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// shadowLag is more than an event of the in-process watch takes to arrive here.
const shadowLag = 200 * time.Millisecond

type ref struct {
	typ resource.Type
	id  resource.ID
}

func (r ref) String() string { return diff.Kind(r.typ) + " " + r.id }

func refOf(r resource.Resource) ref { return ref{r.Metadata().Type(), r.Metadata().ID()} }

// span is from..to; a zero to is open.
type span struct{ from, to time.Time }

func (s span) holds(t time.Time) bool {
	return !t.Before(s.from) && (s.to.IsZero() || t.Before(s.to))
}

// life is what is known of one resource over time.
type life struct {
	now     resource.Resource // nil once it is gone
	place   place             // the last one that it was in
	there   []span            // when it existed
	ours    []span            // when it carried our mark
	running []span            // when it was ours and not being torn down
	torn    []span            // when it was being torn down
	locked  []span            // when a lock was on it
	marks   []departing       // of a cluster or fleet resource, one for each version
	fleet   bool              // it is a fleet resource
}

// shadow follows the embedded Omni's database directly, beside the network, and keeps
// what the invariants need of the past.
type shadow struct {
	st     state.State
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu     sync.Mutex
	lives  map[ref]*life
	broken []string
	// unlocking are the resources whose lock the UI is about to take away.
	unlocking map[ref]bool
	// byUI are the resources that the UI tears down.
	byUI map[ref]bool
	// begun are the deletions that began, judged the number of them that were judged, and
	// places where the source reads from.
	begun  []begun
	judged int
	places []reading
	// torn is told of every teardown that the UI does not do.
	torn func(ref, time.Time)
	// born returns when the daemon was started.
	born func() time.Time
}

func newShadow(st state.State) *shadow {
	return &shadow{
		st: st, lives: map[ref]*life{}, unlocking: map[ref]bool{}, byUI: map[ref]bool{},
		torn: func(ref, time.Time) {}, born: func() time.Time { return time.Time{} },
	}
}

// start follows the database and returns once all of it was read. What changed since a
// stop (the database was restored) is nobody's doing.
func (s *shadow) start(ctx context.Context) error {
	ctx, s.cancel = context.WithCancel(ctx)
	booted := make(chan error, len(render.Kinds()))

	for _, kind := range render.Kinds() {
		events := make(chan []state.Event)

		if err := s.st.WatchKindAggregated(ctx, resource.NewMetadata(kind.Namespace, kind.Type, "", resource.VersionUndefined),
			events, state.WithBootstrapContents(true)); err != nil {
			return err
		}

		s.group.Go(func() { s.follow(ctx, kind.Type, events, booted) })
	}

	for range render.Kinds() {
		select {
		case err := <-booted:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}

	return nil
}

func (s *shadow) stop() {
	s.cancel()
	s.group.Wait()
}

func (s *shadow) follow(ctx context.Context, typ resource.Type, events <-chan []state.Event, booted chan<- error) {
	contents := map[ref]bool{}
	booting := true

	for {
		select {
		case <-ctx.Done():
			return
		case batch := <-events:
			s.mu.Lock()

			for _, event := range batch {
				switch event.Type {
				case state.Errored:
					s.broken = append(s.broken, fmt.Sprintf("the test's own watch failed: %v", event.Error))
				case state.Bootstrapped:
					s.vanish(typ, contents)
					booting = false
					booted <- nil
				case state.Created, state.Updated:
					if booting {
						contents[refOf(event.Resource)] = true
					}

					s.see(event.Resource, booting)
				case state.Destroyed:
					s.gone(refOf(event.Resource))
				case state.Noop:
				}
			}

			s.mu.Unlock()
		}
	}
}

// vanish notes that everything of a type that is not in contents is gone.
func (s *shadow) vanish(typ resource.Type, contents map[ref]bool) {
	for key, l := range s.lives {
		if key.typ == typ && l.now != nil && !contents[key] {
			s.gone(key)
		}
	}
}

func (s *shadow) gone(key ref) {
	l := s.life(key)
	l.now = nil
	l.marks = append(l.marks, departing{at: time.Now(), first: time.Now()})

	for _, spans := range []*[]span{&l.there, &l.ours, &l.running, &l.torn, &l.locked} {
		record(spans, false, time.Now())
	}
}

func (s *shadow) life(key ref) *life {
	if s.lives[key] == nil {
		s.lives[key] = &life{}
	}

	return s.lives[key]
}

// see takes the newest version of a resource.
func (s *shadow) see(r resource.Resource, booting bool) {
	key := refOf(r)
	l := s.life(key)
	old := l.now

	lock := locked(r)
	if old != nil && locked(old) && !lock && !booting {
		_, fromGit := old.Metadata().Annotations().Get(diff.MarkLocked)

		switch {
		case s.unlocking[key]:
			delete(s.unlocking, key)
		case key.typ == omni.MachineSetNodeType && fromGit:
		default:
			s.broken = append(s.broken, fmt.Sprintf("the lock on %s was taken away", key))
		}
	}

	// Between two versions of one resource nobody but the daemon puts its mark.
	if old != nil && diff.SourceOf(old) == otherSource && diff.SourceOf(r) == sourceName && !booting {
		s.broken = append(s.broken, fmt.Sprintf("%s was taken from another source", key))
	}

	// The database's own time: events may arrive late on a busy machine.
	at := r.Metadata().Updated()

	switch {
	case booting:
		at = time.Now()
	case r.Metadata().Version().Value() == 1:
		at = r.Metadata().Created()
	}

	ours := diff.SourceOf(r) == sourceName
	torn := r.Metadata().Phase() == resource.PhaseTearingDown

	record(&l.there, true, at)
	record(&l.ours, ours, at)
	record(&l.running, ours && !torn, at)
	record(&l.torn, torn, at)
	record(&l.locked, lock, at)

	if booting {
		l.marks = nil
		old = nil
	}

	s.departs(key, l, old, r, at)

	l.now = r
	l.place, l.fleet = placeOf(r), diff.IsFleet(r)
}

func record(spans *[]span, is bool, at time.Time) {
	n := len(*spans)
	open := n > 0 && (*spans)[n-1].to.IsZero()

	switch {
	case is && !open:
		*spans = append(*spans, span{from: at})
	case !is && open:
		(*spans)[n-1].to = at
	}
}

// locked reports whether a lock is on a cluster or machine.
func locked(r resource.Resource) bool {
	name := omni.ClusterLocked
	if r.Metadata().Type() == omni.MachineSetNodeType {
		name = omni.MachineLocked
	}

	_, lock := r.Metadata().Annotations().Get(name)

	return lock
}

func clusterOf(r resource.Resource) string {
	if r.Metadata().Type() == omni.ClusterType {
		return r.Metadata().ID()
	}

	name, _ := r.Metadata().Labels().Get(omni.LabelCluster)

	return name
}
