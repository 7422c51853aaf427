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

// Watch hands the configuration to adopt whenever it becomes another one than current, until
// ctx ends, and tells report what came of it: nil, or why it cannot be used. One that was
// not adopted is tried again, since what it lacked may come; the same error is reported
// once. It looks when the folder of the file changes and when wake delivers, as on SIGHUP;
// after that it reports in any case, so that whoever asked gets an answer.
func Watch[T any](ctx context.Context, path string, current *Config, wake <-chan T, adopt func(*Config) error, report func(error)) error {
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
		if err == nil && !asked && reported == "" && reflect.DeepEqual(current, next) {
			return
		}

		if err == nil {
			err = adopt(next)
		}

		switch {
		case err == nil:
			current, reported = next, ""
			report(nil)
		case asked || err.Error() != reported:
			reported = err.Error()
			report(err)
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
