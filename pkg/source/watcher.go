package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// watcher waits for changes in a set of folders.
type watcher struct {
	root    string // absolute
	notify  func() (*fsnotify.Watcher, error)
	network func(folder string) string
	poll    time.Duration // for the log
	log     *zap.Logger
	stirred func() // is called when something changes after a while of rest

	current *fsnotify.Watcher      // nil when the system does not notify
	folders map[string]fs.FileInfo // watched by current
	denied  map[string]bool        // those that we may not watch
	remote  string                 // the network filesystem that one of them is on, or ""
	started bool
	tried   time.Time // when watches were asked for last
	told    bool      // that the system does not notify
	warned  bool      // that it does not know of every change
}

// retry is how long a system that had no watches left is not asked again.
const retry = time.Minute

// blind reports whether things can change without notice.
func (w *watcher) blind() bool { return w.current == nil || w.remote != "" }

// follow watches exactly these folders, and the one that the root is in, which tells
// when the root comes back or is swapped. It returns true when something is watched
// that was not before: the caller must look again. Folders are told apart by more
// than their names, because one that was removed and made again needs a new watch.
//
// The whole set is renewed when it changes. That is rare, and leaves no question
// about what the system still watches after renames.
func (w *watcher) follow(folders map[string]fs.FileInfo) bool {
	if w.started && maps.EqualFunc(w.folders, folders, os.SameFile) && w.alive() {
		return false
	}

	old := w.current
	w.started, w.folders, w.tried = true, folders, time.Now()
	w.lookForNetworks()

	current, err := w.notify()
	if err == nil {
		err = w.add(current)
	}

	if err != nil {
		if current != nil {
			current.Close() //nolint:errcheck // it was of no use
		}

		if !w.told {
			w.log.Warn("the system does not tell of changes: looking again and again instead (on Linux, raise fs.inotify.max_user_watches and max_user_instances)",
				zap.Duration("every", w.poll), zap.Error(err))
		}

		w.told = true
		current = nil
	}

	w.current = current

	if old != nil {
		old.Close() //nolint:errcheck // nothing to lose
	}

	return current != nil
}

// lookForNetworks finds a network filesystem among the folders. One may be mounted
// below a local folder, so every device is asked.
func (w *watcher) lookForNetworks() {
	w.remote = ""
	asked := map[uint64]bool{}

	for path, info := range w.folders {
		_, _, device := stamp(info)
		if asked[device] {
			continue
		}

		asked[device] = true

		if w.remote = w.network(path); w.remote == "" {
			continue
		}

		if !w.warned {
			w.log.Info("this is a network filesystem, where the system does not know what other machines change: looking again and again instead",
				zap.String("filesystem", w.remote), zap.String("folder", path), zap.Duration("every", w.poll))
		}

		w.warned = true

		return
	}
}

// alive reports whether the system still watches all folders. A folder that was
// removed and made again may look the same, down to the inode number.
func (w *watcher) alive() bool {
	if w.current == nil {
		return time.Since(w.tried) < retry
	}

	watched := map[string]bool{}
	for _, path := range w.current.WatchList() {
		watched[path] = true
	}

	for _, path := range w.paths() {
		if !watched[path] && !w.denied[path] {
			return false
		}
	}

	return true
}

func (w *watcher) paths() []string {
	return append(slices.Collect(maps.Keys(w.folders)), filepath.Dir(w.root))
}

func (w *watcher) add(to *fsnotify.Watcher) error {
	w.denied = map[string]bool{}

	for _, path := range w.paths() {
		switch err := to.Add(path); {
		case err == nil, errors.Is(err, fs.ErrNotExist): // the next look finds what went
		case errors.Is(err, fs.ErrPermission):
			w.denied[path] = true
		default:
			return fmt.Errorf("watch %s: %w", path, err)
		}
	}

	return nil
}

// wait returns true after d, when poke rings, or when something changed and was quiet
// for the settle time (at most ten times as long); false when ctx ends.
func (w *watcher) wait(ctx context.Context, d, settle time.Duration, poke bell) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()

	var (
		events chan fsnotify.Event
		errs   chan error
		latest time.Time
	)

	if w.current != nil {
		events, errs = w.current.Events, w.current.Errors
	}

	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return ctx.Err() == nil
		case <-poke:
			return ctx.Err() == nil
		case event := <-events:
			// The folder above is watched for the root only.
			if filepath.Dir(event.Name) == filepath.Dir(w.root) && event.Name != w.root {
				continue
			}
		case <-errs: // events were lost
		}

		if latest.IsZero() {
			w.stirred()

			latest = time.Now().Add(10 * settle)
		}

		timer.Reset(min(settle, time.Until(latest)))
	}
}

func (w *watcher) close() {
	if w.current != nil {
		w.current.Close() //nolint:errcheck // nothing to lose
	}
}
