package access_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/access"
)

func openDirectory(t *testing.T, path string) *access.Directory {
	t.Helper()

	d, err := access.OpenDirectory(path)
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })

	return d
}

// files returns the contents of the files in a directory, without the notes.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()

	found := map[string]string{}

	for name := range names(t, dir) {
		if name != ".omni-syncd" {
			found[name] = read(t, filepath.Join(dir, name))
		}
	}

	return found
}

func configs(text string) access.Configs {
	return access.Configs{Kubeconfig: []byte("k " + text), Talosconfig: []byte("t " + text)}
}

func list(t *testing.T, d *access.Directory) []string {
	t.Helper()

	clusters, err := d.List(t.Context())
	must(t, err)

	return clusters
}

func TestDirectory(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "a", "b")
	d := openDirectory(t, path)

	must(t, d.Put(t.Context(), "prod", configs("1")))
	must(t, d.Put(t.Context(), "test", configs("1")))
	must(t, d.Put(t.Context(), "prod", configs("2")))
	same(t, "files", map[string]string{"prod.kubeconfig": "k 2", "prod.talosconfig": "t 2", "test.kubeconfig": "k 1", "test.talosconfig": "t 1"}, files(t, path))
	same(t, "list", []string{"prod", "test"}, list(t, d))

	for name, mode := range names(t, path) {
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[name == ".omni-syncd"]; mode != want {
			t.Errorf("%s has the mode %o", name, mode)
		}
	}

	same(t, "folder", fs.FileMode(0o700), must1(t)(os.Stat(path)).Mode().Perm())

	// What is there is not written again.
	before := must1(t)(os.Stat(filepath.Join(path, "prod.kubeconfig")))
	must(t, d.Put(t.Context(), "prod", configs("2")))

	if !os.SameFile(before, must1(t)(os.Stat(filepath.Join(path, "prod.kubeconfig")))) {
		t.Error("a file was replaced by an equal one")
	}

	// What somebody removed is made again, what is not wanted any more goes.
	must(t, os.Remove(filepath.Join(path, "prod.kubeconfig")))
	must(t, d.Put(t.Context(), "prod", access.Configs{Kubeconfig: []byte("k 3")}))
	same(t, "files", map[string]string{"prod.kubeconfig": "k 3", "test.kubeconfig": "k 1", "test.talosconfig": "t 1"}, files(t, path))

	_, err := access.OpenDirectory(path)
	fails(t, err, path, "another omni-syncd")
	must(t, d.Close())

	// The next process knows what the last one wrote.
	d = openDirectory(t, path)
	same(t, "list", []string{"prod", "test"}, list(t, d))
	must(t, d.Remove(t.Context(), "prod"))
	must(t, d.Remove(t.Context(), "test"))
	must(t, d.Remove(t.Context(), "test"))
	same(t, "files", map[string]string{}, files(t, path))
	same(t, "list", 0, len(list(t, d)))
	same(t, "notes", 1, len(names(t, filepath.Join(path, ".omni-syncd")))) // the lock
}

// What somebody else wrote is neither replaced nor removed.
func TestDirectory_Foreign(t *testing.T) {
	t.Parallel()

	path := private(t)
	write(t, filepath.Join(path, "prod.kubeconfig"), "mine")
	d := openDirectory(t, path)

	var foreign *access.ForeignError

	err := d.Put(t.Context(), "prod", configs("1"))
	fails(t, err, filepath.Join(path, "prod.kubeconfig"), "move it away")

	if !errors.As(err, &foreign) {
		t.Errorf("the error is %T", err)
	}

	same(t, "files", map[string]string{"prod.kubeconfig": "mine", "prod.talosconfig": "t 1"}, files(t, path))

	// It is moved away.
	must(t, os.Rename(filepath.Join(path, "prod.kubeconfig"), filepath.Join(path, "mine")))
	must(t, d.Put(t.Context(), "prod", configs("1")))
	same(t, "files", map[string]string{"prod.kubeconfig": "k 1", "prod.talosconfig": "t 1", "mine": "mine"}, files(t, path))

	// One that was ours is changed: it is somebody else's now, also when the cluster goes.
	write(t, filepath.Join(path, "prod.kubeconfig"), "changed")
	fails(t, d.Put(t.Context(), "prod", configs("2")), "prod.kubeconfig")
	fails(t, d.Remove(t.Context(), "prod"), "prod.kubeconfig")
	must(t, d.Remove(t.Context(), "prod"))
	same(t, "files", map[string]string{"prod.kubeconfig": "changed", "mine": "mine"}, files(t, path))
	same(t, "list", 0, len(list(t, d)))

	// Nor is what a link leads to, or a folder.
	must(t, os.Symlink("mine", filepath.Join(path, "link.kubeconfig")))
	must(t, os.Mkdir(filepath.Join(path, "link.talosconfig"), 0o700))
	fails(t, d.Put(t.Context(), "link", configs("1")), "link.kubeconfig", "link.talosconfig")
	must(t, d.Remove(t.Context(), "link"))
	same(t, "mine", "mine", read(t, filepath.Join(path, "mine")))

	// A cluster that never had files takes none away.
	write(t, filepath.Join(path, "other.kubeconfig"), "k 1")
	must(t, d.Remove(t.Context(), "other"))
	same(t, "other", "k 1", read(t, filepath.Join(path, "other.kubeconfig")))
}

// What there is room for is told before anything is made.
func TestDirectory_Check(t *testing.T) {
	t.Parallel()

	path := private(t)
	d := openDirectory(t, path)
	kubeconfig, talosconfig := filepath.Join(path, "prod.kubeconfig"), filepath.Join(path, "prod.talosconfig")

	check := func(want access.Room, words ...string) {
		t.Helper()

		room, err := d.Check(t.Context(), "prod")
		same(t, "room", want, room)

		if len(words) > 0 {
			fails(t, err, words...)
		} else {
			must(t, err)
		}
	}

	check(access.Room{Kubeconfig: true, Talosconfig: true})
	same(t, "files", 1, len(names(t, path)))

	must(t, d.Put(t.Context(), "prod", configs("1")))
	check(access.Room{Kubeconfig: true, Talosconfig: true})

	must(t, os.Remove(kubeconfig))
	check(access.Room{Kubeconfig: true, Talosconfig: true})

	write(t, kubeconfig, "mine")
	check(access.Room{Talosconfig: true}, kubeconfig, "move it away")

	write(t, talosconfig, "mine, too")
	check(access.Room{}, kubeconfig, talosconfig)

	write(t, filepath.Join(path, ".omni-syncd", "prod.json"), "{")
	check(access.Room{}, "prod.json", "damaged")

	_, err := d.Check(t.Context(), "../x")
	fails(t, err, "no file name")
}

// A folder that others can write, or that is theirs, is no place for keys.
func TestOpenDirectory_OfOthers(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		make  func(path string) error
		words []string // none: it is taken
	}{
		"all can write":        {func(path string) error { return os.Chmod(path, 0o777) }, []string{"written by others", "chmod go-w"}},
		"all can, but sticky":  {func(path string) error { return os.Chmod(path, 0o777|fs.ModeSticky) }, []string{"chmod go-w"}},
		"the group can write":  {func(path string) error { return os.Chmod(path, 0o770) }, []string{"chmod go-w"}},
		"all can read":         {func(path string) error { return os.Chmod(path, 0o755) }, nil},
		"the notes are open":   {func(path string) error { return openNotes(path, 0o777) }, []string{".omni-syncd", "chmod go-w"}},
		"the notes are closed": {func(path string) error { return openNotes(path, 0o700) }, nil},
		"the notes are a link": {func(path string) error { return os.Symlink(os.TempDir(), filepath.Join(path, ".omni-syncd")) }, []string{".omni-syncd", "symbolic link", "move it away"}},
		"the notes are a link that dangles": {
			func(path string) error { return os.Symlink("nowhere", filepath.Join(path, ".omni-syncd")) }, []string{".omni-syncd", "symbolic link"},
		},
		"the notes are a file": {func(path string) error { return os.WriteFile(filepath.Join(path, ".omni-syncd"), nil, 0o600) }, []string{".omni-syncd", "no folder", "move it away"}},
		"another user's":       {func(path string) error { return os.Chown(path, 54321, -1) }, []string{"the user 54321", "chown"}},
		"the notes are another one's": {func(path string) error {
			return errors.Join(openNotes(path, 0o700), os.Chown(filepath.Join(path, ".omni-syncd"), 54321, -1))
		}, []string{".omni-syncd", "the user 54321"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			path := private(t)

			if err := test.make(path); errors.Is(err, fs.ErrPermission) {
				t.Skip("only root can give a folder away")
			} else if err != nil {
				t.Fatal(err)
			}

			d, err := access.OpenDirectory(path)

			if test.words == nil {
				must(t, err)
				must(t, d.Close())

				return
			}

			fails(t, err, append(test.words, path)...)
		})
	}
}

// openNotes makes the folder of the notes, whatever the umask is.
func openNotes(path string, mode fs.FileMode) error {
	notes := filepath.Join(path, ".omni-syncd")

	return errors.Join(os.Mkdir(notes, mode), os.Chmod(notes, mode))
}

// Cut off at any moment: files are whole, and the next process knows them for its own.
func TestDirectory_CutOff(t *testing.T) {
	t.Parallel()

	for _, cut := range []string{"before the file", "in the file", "after the file"} {
		t.Run(cut, func(t *testing.T) {
			t.Parallel()

			path := private(t)
			notes := filepath.Join(path, ".omni-syncd")
			d := openDirectory(t, path)
			must(t, d.Put(t.Context(), "prod", access.Configs{Kubeconfig: []byte("old")}))
			must(t, d.Put(t.Context(), "prod", access.Configs{Kubeconfig: []byte("new")})) // the note names both now
			must(t, d.Close())

			switch cut {
			case "before the file":
				write(t, filepath.Join(path, "prod.kubeconfig"), "old")
			case "in the file":
				write(t, filepath.Join(path, "prod.kubeconfig"), "old")
				write(t, filepath.Join(notes, "prod.kubeconfig.tmp"), "ne")
				write(t, filepath.Join(notes, "prod.json.tmp"), `{"fi`)
			}

			d = openDirectory(t, path)
			must(t, d.Put(t.Context(), "prod", access.Configs{Kubeconfig: []byte("newer")}))
			same(t, "files", map[string]string{"prod.kubeconfig": "newer"}, files(t, path))
			must(t, d.Remove(t.Context(), "prod"))
			same(t, "files", map[string]string{}, files(t, path))
		})
	}

	// A note that is damaged makes nothing ours.
	path := private(t)
	d := openDirectory(t, path)
	must(t, d.Put(t.Context(), "prod", configs("1")))
	write(t, filepath.Join(path, ".omni-syncd", "prod.json"), "{")
	fails(t, d.Put(t.Context(), "prod", configs("2")), "prod.json", "damaged", "remove")
	fails(t, d.Remove(t.Context(), "prod"), "prod.json")
	same(t, "files", map[string]string{"prod.kubeconfig": "k 1", "prod.talosconfig": "t 1"}, files(t, path))
}

// No name of a cluster leads out of the folder, or to another cluster's files.
func FuzzDirectoryNames(f *testing.F) {
	for _, name := range []string{"prod", "..", "../x", "a/b", `a\b`, ".omni-syncd/lock", "", "a\x00", "C:x", "prod.kubeconfig", strings.Repeat("a", 300), "-", "ä"} {
		f.Add(name)
	}

	f.Fuzz(func(t *testing.T, name string) {
		outside := t.TempDir()
		path := filepath.Join(outside, "in")
		d := openDirectory(t, path)
		must(t, d.Put(t.Context(), "prod", configs("1")))

		err := d.Put(t.Context(), name, access.Configs{Kubeconfig: []byte("x")})
		same(t, "outside", 1, len(names(t, outside)))

		found := files(t, path)
		if name != "prod" {
			same(t, "the other cluster", "k 1t 1", found["prod.kubeconfig"]+found["prod.talosconfig"])
		}

		if err == nil {
			same(t, "its file", "x", found[name+".kubeconfig"])
		}

		must(t, d.Remove(t.Context(), name))

		if name != "prod" {
			same(t, "files", 2, len(files(t, path)))
		}
	})
}
