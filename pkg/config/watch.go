package config

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long the folder of the file has to be quiet before the file is read: an
// editor, or Kubernetes with a ConfigMap, takes several steps to replace it.
const settle = 200 * time.Millisecond

// pollEvery is how often the file is read besides, for folders that do not tell of changes.
const pollEvery = 30 * time.Second

// Watch calls fn with the configuration whenever it becomes another one than current, and
// with an error whenever it becomes one that cannot be used, until ctx ends. It looks when
// the folder of the file changes and when wake delivers, as on SIGHUP; after that fn is
// called in any case, so that whoever asked gets an answer.
func Watch[T any](ctx context.Context, path string, current *Config, wake <-chan T, fn func(*Config, error)) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching the configuration: %w", err)
	}
	defer watcher.Close() //nolint:errcheck // nothing is written

	// The folder, not the file: most ways to change a file replace it. One that cannot be
	// watched is polled.
	_ = watcher.Add(filepath.Dir(path))

	poll := time.NewTicker(pollEvery)
	defer poll.Stop()

	var (
		changed  <-chan time.Time
		reported string
	)

	look := func(asked bool) {
		next, err := Load(path)

		switch {
		case err != nil && (asked || err.Error() != reported):
			reported = err.Error()
			fn(nil, err)
		case err == nil && (asked || reported != "" || !reflect.DeepEqual(current, next)):
			current, reported = next, ""
			fn(next, nil)
		}
	}

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
			look(true)
		case <-watcher.Events:
			changed = time.After(settle)
		case <-watcher.Errors: // an overflow: something changed
			changed = time.After(settle)
		case <-changed:
			changed = nil

			look(false)
		case <-poll.C:
			look(false)
		}
	}
}
