package sync

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// sourceState is a source and what it says should be.
type sourceState struct {
	SourceConfig

	renderer *render.Renderer
	// desired is nil before the first revision. It is replaced as a whole: whoever
	// decides something takes it once, so that nothing is decided from two revisions.
	// A source that only changes its policy keeps it.
	desired *atomic.Pointer[desired]
	// lookedIn is the term of the lead in which desired was found to be what the source says;
	// it goes with desired.
	lookedIn *atomic.Uint64
	// read is what the last revision holds; nil before the first. Only the watch of the
	// source uses it.
	read *reading
}

// reading is what a revision holds.
type reading struct {
	set      *template.Set
	targets  []*render.Target
	problems template.Problems
}

// set is what was found in the last revision; nil before the first.
func (src *sourceState) set() *template.Set {
	if src.read == nil {
		return nil
	}

	return src.read.set
}

// touchedBy reports whether a revision may differ from the last one in anything that
// templates are made of. A commit elsewhere in the repository is told by the digests of
// folders: nothing is read or rendered for it.
func (src *sourceState) touchedBy(revision source.Revision) bool {
	return src.read == nil || !src.read.set.SameIn(revision.FS, src.Scope)
}

func newSourceState(cfg SourceConfig) *sourceState {
	return &sourceState{SourceConfig: cfg, renderer: render.New(), desired: new(atomic.Pointer[desired]), lookedIn: new(atomic.Uint64)}
}

// follows reports whether two configurations of a source deliver the same targets.
func (src *sourceState) follows(other *SourceConfig) bool {
	return src.Source == other.Source && src.Origin == other.Origin && reflect.DeepEqual(src.Scope, other.Scope)
}

// sources are the sources of an engine, by name. The map is replaced as a whole.
type sources struct {
	byName atomic.Pointer[map[string]*sourceState]
	// turn lets one revision in at a time, and none while the sources are replaced: a
	// source that was taken out must not come back with a late revision.
	turn sync.Mutex
	// replaced tells followSources that the map is another one, and added tells lookAnew.
	replaced, added chan struct{}
}

func newSources() *sources {
	s := &sources{replaced: make(chan struct{}, 1), added: make(chan struct{}, 1)}
	s.byName.Store(&map[string]*sourceState{})

	return s
}

func (s *sources) all() map[string]*sourceState { return *s.byName.Load() }

// get returns a source; nil if there is none of that name.
func (s *sources) get(name string) *sourceState { return s.all()[name] }

// use keeps the sources as they are until done is called. It returns nil if src is not
// followed any more.
func (s *sources) use(src *sourceState) (done func()) {
	s.turn.Lock()

	if now := s.get(src.Name); now == nil || now.desired != src.desired {
		s.turn.Unlock()

		return nil
	}

	return s.turn.Unlock
}

// Reconfigure replaces the sources and their policies; it may be called at any time.
// A source that stays the same is not touched. One that goes is no longer followed, and
// nothing of it is deleted: its clusters keep their marks and stay as they are. Writes
// that are under way are not cut off; whatever was planned before is planned again.
func (e *Engine) Reconfigure(configs []SourceConfig) {
	s := e.sources

	s.turn.Lock()
	defer s.turn.Unlock()

	next := make(map[string]*sourceState, len(configs))

	for _, cfg := range configs {
		before := s.get(cfg.Name)

		switch {
		case before == nil:
			next[cfg.Name] = newSourceState(cfg)
		case !before.follows(&cfg):
			next[cfg.Name] = newSourceState(cfg)
		case !reflect.DeepEqual(before.SourceConfig, cfg):
			next[cfg.Name] = &sourceState{SourceConfig: cfg, renderer: before.renderer, desired: before.desired, lookedIn: before.lookedIn}
		default:
			next[cfg.Name] = before
		}
	}

	e.disturb()
	previous := *s.byName.Swap(&next)

	for name := range previous {
		if next[name] == nil {
			e.board.dropSource(name)
			e.Logger.Info("source is no longer followed; nothing of it is deleted", zap.String("source", name))
		}
	}

	for name, src := range next {
		if src == previous[name] {
			continue
		}

		e.board.updateSource(name, func(*SourceStatus) {})

		for _, key := range e.board.keys(name) {
			e.board.reopen(key)
			e.queue.Forget(key)
			e.queue.Add(key)
		}

		e.queueRemoved(src)
	}

	for _, told := range []chan struct{}{s.replaced, s.added} {
		select {
		case told <- struct{}{}:
		default: // the last one was not looked at yet
		}
	}
}

// followSources watches every source until ctx ends, and keeps to the sources as they are
// replaced. A source whose watch fails is reported and does not stop the others (G6).
func (e *Engine) followSources(ctx context.Context, watch func(context.Context, *sourceState) error) error {
	type watched struct {
		src  *sourceState
		stop context.CancelFunc
		done chan struct{}
	}

	var group errgroup.Group
	running := map[string]watched{}

	for {
		now := e.sources.all()

		for name, w := range running {
			if src := now[name]; src == nil || src.desired != w.src.desired {
				w.stop()
			}
		}

		for name, src := range now {
			before, ok := running[name]
			if ok && before.src.desired == src.desired {
				continue
			}

			ctx, stop := context.WithCancel(ctx)
			w := watched{src: src, stop: stop, done: make(chan struct{})}
			running[name] = w

			group.Go(func() error {
				defer close(w.done)
				defer stop()

				if ok {
					<-before.done // a source is not watched twice
				}

				if err := watch(ctx, src); err != nil {
					e.failed(src, err)
				}

				return nil
			})
		}

		select {
		case <-ctx.Done():
			return group.Wait()
		case <-e.sources.replaced:
		}
	}
}
