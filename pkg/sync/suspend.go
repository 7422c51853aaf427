package sync

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Suspension is somebody's request to leave a cluster, or all of a source, alone: it is
// planned and not written to. What stands in Git or in the configuration is a [Policy].
type Suspension struct {
	// Source is the one that is suspended, or that the cluster came from.
	Source string `json:"source"`
	// Target is the cluster, "" for the fleet resources of the source; nil for all of the
	// source, what comes later included. A cluster is suspended by its name, so that it
	// stays so when its template moves to another source.
	Target *string `json:"target,omitempty"`
	// By is who asked for it, and Reason is why.
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
	// Since is when.
	Since time.Time `json:"since"`
}

// EverySource is the source of a suspension of all sources, those included that come later.
// Nobody can ask for it: it stands for a list of suspensions that cannot be read.
const EverySource = "*"

// Unreadable returns what is suspended if the list of suspensions at a place cannot be read:
// everything, until somebody says otherwise. Kept, it is so after a restart, too.
func Unreadable(place string, err error) []Suspension {
	return []Suspension{{
		Source: EverySource, By: "omni-syncd", Since: time.Now().UTC().Truncate(time.Second),
		Reason: fmt.Sprintf("the list of suspensions cannot be read: everything stays suspended; mend %s (%v) and restart, or resume each source "+
			"with `omni-syncd resume --source NAME` or everything with `omni-syncd resume --source '*'`", place, err),
	}}
}

// maxSuspensions bounds how many suspensions there are at the same time (G12).
const maxSuspensions = 10_000

// The errors of [Engine.Suspend] and [Engine.Resume].
var (
	ErrNotKept      = errors.New("nothing is suspended: there is no place to remember it, and a restart would forget it; set `stateDir` in the configuration or --state-dir, or use `suspend: true` of the source")
	ErrNotSuspended = errors.New("it is not suspended by request")
)

// Suspend leaves a target, or a source, alone until [Engine.Resume]. When it returns, writes
// that were under way have come back, no other is begun, and the suspension is durable: it
// holds after a restart. It waits for [Config.Timeout] at most. Suspending again replaces
// who, when and why. Only the replica that leads can do this: [ErrStandby].
func (e *Engine) Suspend(s Suspension) error {
	if e.KeepSuspended == nil {
		return ErrNotKept
	}

	if err := e.mustLead(); err != nil {
		return err
	}

	e.suspending.Lock()
	defer e.suspending.Unlock()

	// First it is in force and then it is kept: the other way round a write could begin in
	// between.
	before := e.board.suspended()
	next := append(slices.DeleteFunc(slices.Clone(before), s.same), s)

	if len(next) > maxSuspensions {
		return fmt.Errorf("there are %d suspensions already; resume some of them", len(before))
	}

	e.suspend(next)

	if err := e.KeepSuspended(next); err != nil {
		e.suspend(before)

		return fmt.Errorf("nothing is suspended, it could not be remembered: %w", err)
	}

	if !e.flights.wait(func(key Key) bool { return e.board.suspension(key) != nil }, e.Timeout) {
		e.Logger.Warn("a write that was under way did not come back yet", s.fields()...)
	}

	if err := e.mustLead(); err != nil {
		return fmt.Errorf("it is remembered, but the lead was lost meanwhile, and a new leader may have begun a write before it heard of it: suspend it again to be sure (%w)", err)
	}

	e.Logger.Info("suspended", append(s.fields(), zap.String("by", s.By), zap.String("reason", s.Reason))...)

	return nil
}

// Resume takes back a suspension of exactly this target or, with nil, of this source. If
// everything is suspended, the other sources stay so.
func (e *Engine) Resume(source string, target *string) error {
	s := Suspension{Source: source, Target: target}

	if e.KeepSuspended == nil {
		return e.notSuspended(&s)
	}

	if err := e.mustLead(); err != nil {
		return err
	}

	e.suspending.Lock()
	defer e.suspending.Unlock()

	next, found := e.without(&s)
	if !found {
		return e.notSuspended(&s)
	}

	if err := e.KeepSuspended(next); err != nil {
		return fmt.Errorf("nothing is resumed, it could not be remembered: %w", err)
	}

	e.suspend(next)
	e.Logger.Info("resumed", s.fields()...)

	return nil
}

// without returns the suspensions in force but one, and whether there is that one.
func (e *Engine) without(s *Suspension) (rest []Suspension, found bool) {
	for _, one := range e.board.suspended() {
		switch {
		case s.same(one):
			found = true
		case one.Source == EverySource && s.Target == nil && e.sources.get(s.Source) != nil:
			found = true

			for _, name := range slices.Sorted(maps.Keys(e.sources.all())) {
				if each := one; name != s.Source {
					each.Source = name
					rest = append(rest, each)
				}
			}
		default:
			rest = append(rest, one)
		}
	}

	return rest, found
}

// notSuspended says that there is nothing to resume, and what there is instead.
func (e *Engine) notSuspended(s *Suspension) error {
	if s.Target == nil {
		return fmt.Errorf("the source %q: %w", s.Source, ErrNotSuspended)
	}

	for _, source := range e.sources.all() {
		if e.board.source(source.Name).Suspension != nil && e.board.has(Key{source.Name, *s.Target}) {
			return fmt.Errorf("%q: %w; its source %s is suspended as a whole, so resume that", *s.Target, ErrNotSuspended, source.Name)
		}
	}

	return fmt.Errorf("%q: %w; a template or the configuration may suspend it, too", *s.Target, ErrNotSuspended)
}

// Suspensions returns those in force, those of clusters that are gone included.
func (e *Engine) Suspensions() []Suspension { return e.board.suspended() }

// AdoptSuspensions puts those in force that another replica has kept. kept is asked while no
// request changes them; with false everything stays as it is.
func (e *Engine) AdoptSuspensions(kept func() ([]Suspension, bool)) {
	e.suspending.Lock()
	defer e.suspending.Unlock()

	if all, ok := kept(); ok {
		e.suspend(all)
	}
}

// suspend puts suspensions in force in place of those before, and has the targets looked
// at that this concerns.
func (e *Engine) suspend(all []Suspension) {
	e.disturb()

	for _, key := range e.board.suspend(all) {
		e.board.reopen(key)
		e.queue.Forget(key)
		e.queue.Add(key)
	}

	// Some of these may reach a cluster that no source describes.
	for name := range e.sources.all() {
		if key := (Key{name, ""}); e.board.has(key) {
			e.queue.Add(key)
		}
	}
}

// scope is what a suspension is about, as a key.
func (s *Suspension) scope() string {
	switch {
	case s.Target == nil:
		return "source " + s.Source
	case *s.Target == "":
		return "fleet " + s.Source
	default:
		return "cluster " + *s.Target
	}
}

func (s *Suspension) same(other Suspension) bool { return s.scope() == other.scope() }

func (s *Suspension) fields() []zap.Field {
	fields := []zap.Field{zap.String("source", s.Source)}
	if s.Target != nil {
		fields = append(fields, zap.String("cluster", *s.Target))
	}

	return fields
}

// String says who suspended it, since when and why.
func (s *Suspension) String() string {
	text := fmt.Sprintf("suspended by %s since %s", s.By, s.Since.UTC().Format(time.RFC3339))
	if s.Reason != "" {
		text += ": " + s.Reason
	}

	return text
}

// suspensions are those in force, by scope. The map is replaced as a whole.
type suspensions map[string]*Suspension

// ofTarget returns what suspends a target: itself or its source; nil if nothing does.
func (s suspensions) ofTarget(key Key) *Suspension {
	own := &Suspension{Source: key.Source, Target: &key.Target}
	if found := s[own.scope()]; found != nil {
		return found
	}

	return s.ofSource(key.Source)
}

func (s suspensions) ofSource(name string) *Suspension {
	if found := s[(&Suspension{Source: name}).scope()]; found != nil {
		return found
	}

	return s[(&Suspension{Source: EverySource}).scope()]
}

// suspended returns the suspensions in force, in a stable order.
func (b *board) suspended() []Suspension {
	b.mu.Lock()
	defer b.mu.Unlock()

	all := make([]Suspension, 0, len(b.suspensions))
	for _, scope := range slices.SortedFunc(maps.Keys(b.suspensions), strings.Compare) {
		all = append(all, *b.suspensions[scope])
	}

	return all
}

// suspend replaces the suspensions in force and returns the targets that this concerns.
func (b *board) suspend(all []Suspension) []Key {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.suspensions = suspensions{}
	for _, s := range all {
		b.suspensions[s.scope()] = &s
	}

	for name, s := range b.sources {
		if now := b.suspensions.ofSource(name); !s.Suspension.equal(now) {
			s.Suspension, s.version = now, b.changed()
			b.sources[name] = s
		}
	}

	var concerned []Key

	for key, r := range b.targets {
		if now := b.suspensions.ofTarget(key); !r.Suspension.equal(now) {
			r.Suspension, r.version = now, b.changed()
			b.targets[key] = r

			concerned = append(concerned, key)
		}
	}

	return concerned
}

func (s *Suspension) equal(other *Suspension) bool {
	if s == nil || other == nil {
		return s == other
	}

	return s.same(*other) && s.By == other.By && s.Reason == other.Reason && s.Since.Equal(other.Since)
}

// suspension returns what suspends a target; nil if nothing does.
func (b *board) suspension(key Key) *Suspension {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.suspensions.ofTarget(key)
}
