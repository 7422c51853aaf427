package config_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/omni-syncd/omni-syncd/pkg/config"
)

// watched is a configuration file that is watched.
type watched struct {
	path string
	wake chan os.Signal
	got  chan string
}

func watch(t *testing.T, path, text string) *watched {
	t.Helper()

	if text != "" {
		write(t, path, text)
	}

	current, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}

	w := &watched{path: path, wake: make(chan os.Signal), got: make(chan string, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() {
		var adopted string

		done <- config.Watch(ctx, path, current, w.wake, func(cfg *config.Config) error {
			if adopted = cfg.Sources[0].Name; adopted == "impossible" {
				return errors.New("not now")
			}

			return nil
		}, func(err error) {
			if err != nil {
				w.got <- "error"
			} else {
				w.got <- adopted
			}
		})
	}()

	// Answered only when the loop runs, so that nothing that follows is missed.
	w.wake <- os.Interrupt
	w.expect(t, current.Sources[0].Name)

	t.Cleanup(func() {
		cancel()

		if err := <-done; err != nil {
			t.Error(err)
		}
	})

	return w
}

func (w *watched) expect(t *testing.T, want string) {
	t.Helper()

	select {
	case got := <-w.got:
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("nothing came, want %q", want)
	}
}

func named(name string) string { return "sources: [{name: " + name + ", dir: {path: /}}]\n" }

func TestWatch(t *testing.T) {
	w := watch(t, filepath.Join(t.TempDir(), "config.yaml"), named("one"))

	write(t, w.path, named("two"))
	w.expect(t, "two")

	// As editors do it.
	write(t, w.path+".tmp", named("three"))

	if err := os.Rename(w.path+".tmp", w.path); err != nil {
		t.Fatal(err)
	}

	w.expect(t, "three")

	// A bad one is reported, and the good one that follows is news even if it is the last.
	write(t, w.path, "sources: 1")
	w.expect(t, "error")
	write(t, w.path, named("three"))
	w.expect(t, "three")

	// One that cannot be adopted is no longer the last one.
	write(t, w.path, named("impossible"))
	w.expect(t, "error")
	write(t, w.path, named("three"))
	w.expect(t, "three")

	// Who asks gets an answer, whatever it is.
	w.wake <- os.Interrupt
	w.expect(t, "three")
	write(t, filepath.Join(filepath.Dir(w.path), "other"), "a neighbour changes: no news")

	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}

	w.expect(t, "error")
}

// Kubernetes replaces a mounted ConfigMap by swapping a link to a folder beside the file.
func TestWatch_ConfigMap(t *testing.T) {
	folder := t.TempDir()

	swap := func(version, text string) {
		t.Helper()

		if err := os.Mkdir(filepath.Join(folder, version), 0o700); err != nil {
			t.Fatal(err)
		}

		write(t, filepath.Join(folder, version, "config.yaml"), text)

		if err := os.Symlink(version, filepath.Join(folder, "..data_tmp")); err != nil {
			t.Fatal(err)
		}

		if err := os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")); err != nil {
			t.Fatal(err)
		}
	}

	swap("..1", named("one"))

	if err := os.Symlink("..data/config.yaml", filepath.Join(folder, "config.yaml")); err != nil {
		t.Fatal(err)
	}

	w := watch(t, filepath.Join(folder, "config.yaml"), "")
	swap("..2", named("two"))
	w.expect(t, "two")
}
