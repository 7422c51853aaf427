package omni

import (
	"context"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
)

// exists reports whether the server is known to have the kind. The Snapshot's lock is held.
func (w *watcher) exists() bool {
	return w.kind.Since == "" || w.snapshot.server.Has(w.kind.Since)
}

// isNew reports whether the server has the kind and it has not been read. The Snapshot's lock is held.
func (w *watcher) isNew() bool { return w.kind.Since != "" && !w.bootstrapped && w.exists() }

// has is exists, without the lock.
func (w *watcher) has() bool {
	w.snapshot.mu.RLock()
	defer w.snapshot.mu.RUnlock()

	return w.exists()
}

// upgraded returns a channel that is closed when the server is another one; nil if that is all the same.
func (w *watcher) upgraded() <-chan struct{} {
	if w.kind.Since == "" {
		return nil
	}

	w.snapshot.mu.RLock()
	defer w.snapshot.mu.RUnlock()

	return w.snapshot.upgraded
}

// awaitKind waits until the server has the kind, and returns false if ctx ends first. What is held of a kind that the server
// does not have, or no more, is forgotten.
func (w *watcher) awaitKind(ctx context.Context) bool {
	for {
		upgraded := w.upgraded() // before the look, or what comes between is missed
		if w.has() {
			return ctx.Err() == nil
		}

		w.forget()

		select {
		case <-ctx.Done():
			return false
		case <-upgraded:
		}
	}
}

// learnServer takes the version that Omni tells, and reports whether it is another one. The lock is held.
func (s *Snapshot) learnServer() bool {
	server := s.told()
	if server == "" || server == s.server {
		return false
	}

	s.server = server
	close(s.upgraded)
	s.upgraded = make(chan struct{})

	return true
}

// forget drops what is held.
func (w *watcher) forget() {
	w.bookmark = nil
	since := w.mark()

	w.snapshot.mu.Lock()
	changes := w.view.bootstrapped(map[resource.ID]resource.Resource{}, since)
	w.bootstrapped, w.downSince, w.err = false, time.Time{}, nil
	back := w.snapshot.comeBack() // if this was what was missing
	w.snapshot.mu.Unlock()

	w.snapshot.notify(changes)
	w.snapshot.updateReady(back)
}
