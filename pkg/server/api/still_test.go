package api_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/server/api"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// stuck is a status with which nothing happens, whatever is asked for: no real engine
// stands still for as long as a test wants.
type stuck struct {
	all sync.Changes

	asked chan struct{}
}

// config returns the configuration of an API on top of it. If nothing else is there, one
// cluster waits.
func (s *stuck) config(testing.TB) api.Config {
	s.asked = make(chan struct{}, 100)

	if s.all.Targets == nil {
		s.add(daemonSource, "a")
	}

	return api.Config{Engine: s}
}

const daemonSource = "test"

func (s *stuck) add(source string, names ...string) {
	s.all.Sources = append(s.all.Sources, sync.SourceStatus{Name: source, Fetched: true})

	for _, name := range names {
		s.all.Targets = append(s.all.Targets, sync.TargetStatus{Key: sync.Key{Source: source, Target: name}, Sync: sync.OutOfSync, Message: "somebody has to do something"})
	}
}

// many adds clusters, so many that no buffer holds them.
func (s *stuck) many(n int) {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("cluster-%05d", i)
	}

	s.add(daemonSource, names...)
}

// Changes implements api.Engine.
func (s *stuck) Changes(uint64) (sync.Changes, <-chan struct{}) {
	all := s.all
	all.Version, all.All, all.Ready = 1, true, true

	return all, make(chan struct{})
}

// Reconcile implements api.Engine.
func (s *stuck) Reconcile(sync.Key) error {
	s.asked <- struct{}{}

	return nil
}

// Confirm implements api.Engine.
func (s *stuck) Confirm(context.Context, string, string, string) (sync.Key, error) {
	return sync.Key{}, nil
}

// Poke implements api.Engine.
func (s *stuck) Poke(string) func() bool { return func() bool { return true } }

// Suspend implements api.Engine.
func (s *stuck) Suspend(sync.Suspension) error { return nil }

// Evidence implements api.Engine.
func (s *stuck) Evidence(sync.Key) sync.Evidence { return sync.Evidence{} }

// Suspensions implements api.Engine.
func (s *stuck) Suspensions() []sync.Suspension { return nil }

func (s *stuck) Leadership() (sync.Leadership, <-chan struct{}) { return sync.Leadership{Term: 1}, nil }

func (s *stuck) Part() (sync.Shard, bool) { return sync.Shard{}, false }

// Resume implements api.Engine.
func (s *stuck) Resume(string, *string) error { return nil }
