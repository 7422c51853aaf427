package access_test

import (
	"context"
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// script is an engine and an issuer that do as they are told.
type script struct {
	mu       gosync.Mutex
	version  uint64
	clusters map[string]error // nil is managed
	fails    map[string]error
	stuck    map[string]bool
	newer    chan struct{}
	issued   map[string]int
	made     map[string]time.Time
}

func newScript() *script {
	return &script{version: 1, clusters: map[string]error{}, fails: map[string]error{}, stuck: map[string]bool{}, issued: map[string]int{}, made: map[string]time.Time{}, newer: make(chan struct{})}
}

// change changes the script, and tells.
func (s *script) change(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()

	fn()
	s.version++
	close(s.newer)
	s.newer = make(chan struct{})
}

func (s *script) Changes(uint64) (sync.Changes, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()

	changes := sync.Changes{Version: s.version, All: true, Ready: true}
	for name := range s.clusters {
		changes.Targets = append(changes.Targets, sync.TargetStatus{Key: sync.Key{Source: "src", Target: name}})
	}

	return changes, s.newer
}

func (s *script) Made(cluster string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.made[cluster]
}

func (s *script) Managed(_, cluster string) (sync.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	err, known := s.clusters[cluster]
	if !known {
		err = &sync.UnmanagedError{Cluster: cluster}
	}

	return sync.Key{Source: "src", Target: cluster}, err
}

func (s *script) Kubeconfig(ctx context.Context, req access.Request) ([]byte, error) {
	s.mu.Lock()
	s.issued[req.Cluster]++
	n, err, stuck := s.issued[req.Cluster], s.fails[req.Cluster], s.stuck[req.Cluster]
	s.mu.Unlock()

	if stuck {
		<-ctx.Done()

		return nil, ctx.Err()
	}

	return []byte(sprint(req.Cluster, n)), err
}

func (s *script) Talosconfig(_ context.Context, _, cluster string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return []byte("talos"), s.fails["talos "+cluster]
}

func (s *script) count(cluster string) int {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.issued[cluster]
}

type bubble = func(t *testing.T, s *script, path string, recorded *observer.ObservedLogs)

// inBubble runs a keeper of kubeconfigs with a script in a directory.
func inBubble(t *testing.T, account *access.ServiceAccount, test bubble) {
	t.Helper()
	inBubbleWith(t, func(cfg *access.KeeperConfig) { cfg.ServiceAccount = account }, test)
}

func inBubbleWith(t *testing.T, edit func(*access.KeeperConfig), test bubble) {
	t.Helper()
	t.Parallel()

	path := private(t)

	synctest.Test(t, func(t *testing.T) {
		core, recorded := observer.New(zap.InfoLevel)
		directory, err := access.OpenDirectory(path)
		must(t, err)
		defer directory.Close() //nolint:errcheck // only locked

		s := newScript()
		cfg := access.KeeperConfig{Store: directory, Issuer: s, Engine: s, Kubeconfig: true, Logger: zap.New(core), Workers: 2}
		edit(&cfg)

		k, err := access.NewKeeper(cfg)
		must(t, err)

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)

		go func() { done <- k.Run(ctx) }()

		test(t, s, path, recorded)
		stop()
		must(t, <-done)
	})
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d) // in a bubble
	synctest.Wait()
}
