package access_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/omni-syncd/omni-syncd/pkg/access"
)

// perDay is how many tokens a cluster needs within a day if each is replaced when it lived
// half of its two hours, or up to a tenth earlier.
const perDay = 28

func ofToken(cfg *access.KeeperConfig) {
	cfg.Talosconfig, cfg.ServiceAccount = true, &access.ServiceAccount{User: "ci", TTL: 2 * time.Hour}
}

// Nobody can revoke a token: none is made that there is no place for.
func TestKeeper_NoTokenForForeignFile(t *testing.T) {
	inBubbleWith(t, ofToken, func(t *testing.T, s *script, path string, recorded *observer.ObservedLogs) {
		file := write(t, filepath.Join(path, "a.kubeconfig"), "mine")
		s.change(func() { s.clusters["a"] = nil })
		pass(24 * time.Hour)
		same(t, "tokens", 0, s.count("a"))
		same(t, "files", map[string]string{"a.kubeconfig": "mine", "a.talosconfig": "talos"}, files(t, path))
		same(t, "told", 1, recorded.FilterLevelExact(zap.ErrorLevel).Len())

		// It is moved away.
		must(t, os.Remove(file))
		pass(2 * time.Minute)
		same(t, "files", map[string]string{"a.kubeconfig": "a1", "a.talosconfig": "talos"}, files(t, path))

		// One that was ours, and that somebody changed.
		write(t, file, "changed")
		pass(24 * time.Hour)
		same(t, "tokens", 1, s.count("a"))
		same(t, "file", "changed", read(t, file))
		same(t, "told", 2, recorded.FilterLevelExact(zap.ErrorLevel).Len())
	})
}

// What is in the way of one config holds up neither the other one nor its renewal.
func TestKeeper_ForeignTalosconfig(t *testing.T) {
	inBubbleWith(t, ofToken, func(t *testing.T, s *script, path string, _ *observer.ObservedLogs) {
		write(t, filepath.Join(path, "a.talosconfig"), "mine")
		s.change(func() { s.clusters["a"] = nil })
		pass(24 * time.Hour)

		n := s.count("a")
		if n < 24 || n > perDay {
			t.Errorf("%d tokens were made", n)
		}

		same(t, "files", map[string]string{"a.kubeconfig": sprint("a", n), "a.talosconfig": "mine"}, files(t, path))
	})
}

// What is not kept matters to nobody.
func TestKeeper_ForeignUnwanted(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *script, path string, recorded *observer.ObservedLogs) {
		write(t, filepath.Join(path, "a.talosconfig"), "mine")
		s.change(func() { s.clusters["a"] = nil })
		pass(time.Hour)
		same(t, "told", 0, recorded.FilterLevelExact(zap.ErrorLevel).Len())
	})
}

// No token is made for a cluster whose talosconfig cannot be had.
func TestKeeper_NoTokenWithoutTalosconfig(t *testing.T) {
	inBubbleWith(t, ofToken, func(t *testing.T, s *script, path string, _ *observer.ObservedLogs) {
		s.change(func() { s.clusters["a"], s.fails["talos a"] = nil, errFixture })
		pass(24 * time.Hour)
		same(t, "tokens", 0, s.count("a"))

		s.change(func() { delete(s.fails, "talos a") })
		pass(5 * time.Minute)
		same(t, "files", map[string]string{"a.kubeconfig": "a1", "a.talosconfig": "talos"}, files(t, path))
	})
}

// full is a store that has no space left.
type full struct {
	access.Store

	mu   gosync.Mutex
	free bool
}

func (f *full) Put(ctx context.Context, cluster string, configs access.Configs) error {
	f.mu.Lock()
	defer f.mu.Unlock()

	if !f.free {
		return errors.New("no space left")
	}

	return f.Store.Put(ctx, cluster, configs)
}

func (f *full) empty() {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.free = true
}

// hung is a store that once does not answer what it keeps.
type hung struct {
	access.Store

	asked atomic.Bool
}

func (h *hung) List(ctx context.Context) ([]string, error) {
	if h.asked.CompareAndSwap(false, true) {
		<-ctx.Done()

		return nil, ctx.Err()
	}

	return h.Store.List(ctx)
}

// Nothing is kept before the store has said what it holds: one that does not answer is asked again.
func TestKeeper_StoreHangs(t *testing.T) {
	inBubbleWith(t, func(cfg *access.KeeperConfig) { cfg.Store = &hung{Store: cfg.Store} }, func(t *testing.T, s *script, path string, recorded *observer.ObservedLogs) {
		s.change(func() { s.clusters["a"] = nil })
		pass(10 * time.Minute)
		same(t, "told", 1, recorded.FilterLevelExact(zap.ErrorLevel).Len())
		same(t, "files", map[string]string{"a.kubeconfig": "a1"}, files(t, path))
	})
}

// A store that fails is tried again with the token that there is.
func TestKeeper_StoreFails(t *testing.T) {
	store := &full{}

	inBubbleWith(t, func(cfg *access.KeeperConfig) {
		ofToken(cfg)
		store.Store, cfg.Store = cfg.Store, store
	}, func(t *testing.T, s *script, path string, recorded *observer.ObservedLogs) {
		s.change(func() { s.clusters["a"] = nil })
		pass(24 * time.Hour)

		n := s.count("a")
		if n > perDay {
			t.Errorf("%d tokens were made", n)
		}

		same(t, "told", 1, recorded.FilterLevelExact(zap.WarnLevel).Len())
		store.empty()
		pass(5 * time.Minute)
		same(t, "files", map[string]string{"a.kubeconfig": sprint("a", s.count("a")), "a.talosconfig": "talos"}, files(t, path))
	})
}

// A file that somebody removed comes back soon, and costs no token.
func TestKeeper_RemovedFile(t *testing.T) {
	inBubbleWith(t, ofToken, func(t *testing.T, s *script, path string, _ *observer.ObservedLogs) {
		s.change(func() { s.clusters["a"] = nil })
		pass(time.Second)

		want := files(t, path)
		for range 10 {
			must(t, os.Remove(filepath.Join(path, "a.kubeconfig")))
			must(t, os.Remove(filepath.Join(path, "a.talosconfig")))
			pass(2 * time.Minute)
			same(t, "files", want, files(t, path))
		}

		same(t, "tokens", 1, s.count("a"))
	})
}

// A cluster that went and came back unseen is another one.
func TestKeeper_MadeAgainUnseen(t *testing.T) {
	inBubbleWith(t, ofToken, func(t *testing.T, s *script, path string, _ *observer.ObservedLogs) {
		s.change(func() { s.clusters["a"], s.made["a"] = nil, time.Now() })
		pass(time.Second)
		s.change(func() { s.made["a"] = time.Now() })
		pass(2 * time.Minute)
		same(t, "file", "a2", files(t, path)["a.kubeconfig"])
		pass(30 * time.Minute)
		same(t, "tokens", 2, s.count("a"))
	})
}

// A cluster that was away is another one: what was fetched before is not put back.
func TestKeeper_MadeAgain(t *testing.T) {
	inBubbleWith(t, ofToken, func(t *testing.T, s *script, path string, _ *observer.ObservedLogs) {
		s.change(func() { s.clusters["a"] = nil })
		pass(time.Second)
		s.change(func() { delete(s.clusters, "a") })
		pass(2 * time.Minute) // the script tells of no removal: it is seen at the next look
		same(t, "files", 0, len(files(t, path)))
		s.change(func() { s.clusters["a"] = nil })
		pass(time.Second)
		same(t, "file", "a2", files(t, path)["a.kubeconfig"])
	})
}
