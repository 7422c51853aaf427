package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/source"
)

// settings are what the daemon's configuration says, beside what never changes.
type settings struct {
	file, url, branch string
	// exclude are the files that the source does not read, and include those that it reads alone.
	exclude, include []string
	// folder is a directory that a second source reads; "" is no second source.
	folder string
}

// socket is where the daemon is asked.
func (s *settings) socket() string { return filepath.Join(filepath.Dir(s.file), "api.sock") }

// folderSource is the source that reads a directory outside of Git.
const folderSource = "folder"

// configuration writes the settings as the daemon reads them.
func (w *world) configuration() string {
	var b strings.Builder

	fmt.Fprintf(&b, `omni: {endpoint: "http://%s"}
stateDir: state
api: {socket: %q}
deleteWindow: %s
sources:
  - name: %s
    git: {url: %q, branch: %s}
    path: %s
    interval: 1s
    prune: true
    deleteAfter: %s
    maxDelete: %d
`, w.proxy.addr, w.settings.socket(), deleteWindow, sourceName, w.settings.url, w.settings.branch, folder, deleteAfter, maxDelete)

	for key, globs := range map[string][]string{"include": w.settings.include, "exclude": w.settings.exclude} {
		if len(globs) > 0 {
			fmt.Fprintf(&b, "    %s: [%s]\n", key, strings.Join(globs, ", "))
		}
	}

	if w.settings.folder != "" {
		fmt.Fprintf(&b, "  - name: %s\n    dir: {path: %q}\n    prune: true\n    deleteAfter: %s\n", folderSource, w.settings.folder, deleteAfter)
	}

	return b.String()
}

// place is where the source reads from with these settings.
func (w *world) place() diff.Place {
	return diff.Place{
		Repository: source.Identity(w.settings.url), Ref: w.settings.branch, Path: folder,
		Include: slices.Sorted(slices.Values(w.settings.include)), Exclude: slices.Sorted(slices.Values(w.settings.exclude)),
	}
}

// configure has the daemon read other settings, and returns once it did.
func (w *world) configure(ctx context.Context, edit func(*settings)) {
	w.t.Helper()

	before := w.daemon.log.count(configured, ended)

	edit(&w.settings)
	w.shadow.reads(w.place())

	replaced := w.settings.file + ".new"
	w.must(os.WriteFile(replaced, []byte(w.configuration()), 0o600))
	w.must(os.Rename(replaced, w.settings.file))
	w.until(ctx, "the daemon does not read its configuration again", func() []string {
		if w.daemon.log.count(configured, ended) > before {
			return nil
		}

		return []string{filepath.Base(w.settings.file)}
	})
	w.tally("configuration", "read again")
}
