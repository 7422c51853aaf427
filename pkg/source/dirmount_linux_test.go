package source

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// atomicWriter writes a volume as the kubelet does: each version in a folder of its
// own, put in place by the rename of one link, and the old one removed.
type atomicWriter struct {
	t    *testing.T
	dir  string
	past string // folder of the last version
	n    int
}

func (w *atomicWriter) write(files map[string]string) {
	w.n++

	name := fmt.Sprintf("..2026_01_02_03_04_05.%d", w.n)
	for file, content := range files {
		writeFiles(w.t, w.dir, map[string]string{name + "/" + file: content})
	}

	symlink(w.t, name, w.dir+"/..data_tmp")
	rename(w.t, w.dir+"/..data_tmp", w.dir+"/..data")

	for file := range files {
		first, _, _ := strings.Cut(file, "/")
		if _, err := os.Lstat(filepath.Join(w.dir, first)); err != nil {
			symlink(w.t, "..data/"+first, filepath.Join(w.dir, first))
		}
	}

	if w.past != "" {
		remove(w.t, filepath.Join(w.dir, w.past))
	}

	w.past = name
}

// However fast a ConfigMap changes, no revision holds files of two versions.
func TestDirMountsAreNotMixed(t *testing.T) {
	const (
		versions = 60
		files    = 10
	)

	w := &atomicWriter{t: t, dir: t.TempDir()}
	version := func(n int) map[string]string {
		content := map[string]string{}
		for i := range files {
			content[fmt.Sprintf("%02d", i)] = fmt.Sprintf("%04d", n) // always of the same size
			content[fmt.Sprintf("sub/%02d", i)] = fmt.Sprintf("%04d", n)
		}

		return content
	}
	last := fmt.Sprintf("%04d", versions)

	w.write(version(0))

	done := make(chan struct{})

	go func() {
		defer close(done)

		for n := range versions {
			w.write(version(n + 1))
		}
	}()

	d := NewDir(DirConfig{Path: w.dir, Settle: time.Nanosecond}) // no rest for it
	seen, restless := map[string]bool{}, 0

	for !seen[last] {
		rev, err := d.Fetch(t.Context())
		if err != nil {
			if restless++; !strings.Contains(err.Error(), "the files change all the time") {
				t.Fatal(err)
			}

			continue
		}

		want := read(t, rev.FS, "00")
		seen[want] = true

		for name := range version(0) {
			if got := read(t, rev.FS, name); got != want {
				t.Fatalf("%s is of version %s, others of %s", name, got, want)
			}
		}
	}

	<-done
	t.Logf("took %d of %d versions, and found it changing %d times", len(seen), versions+1, restless)
}

// A network filesystem tells of nothing that another machine does. Here the change
// comes through a hard link elsewhere, of which inotify does not tell either.
func TestDirPollsNetworks(t *testing.T) {
	base := t.TempDir()
	writeFiles(t, base, map[string]string{"fleet/f": "1", "elsewhere/.keep": ""})

	if err := os.Link(base+"/fleet/f", base+"/elsewhere/f"); err != nil {
		t.Skip(err)
	}

	core, logs := observer.New(zapcore.InfoLevel)
	cfg := quick(base + "/fleet")
	cfg.Poll, cfg.Logger = 10*time.Millisecond, zap.New(core)

	d := NewDir(cfg)
	d.network = func(string) string { return "NFS" }

	revs := watchRevisions(t, d)
	until(t, revs, "f", "1")
	writeFiles(t, base, map[string]string{"elsewhere/f": "2"})
	until(t, revs, "f", "2")

	// What the system does tell of is taken at once, too.
	writeFiles(t, base, map[string]string{"fleet/g": "1"})
	until(t, revs, "g", "1")

	if logs.FilterMessageSnippet("network filesystem").Len() != 1 {
		t.Errorf("logged %v", logs.All())
	}
}

func TestNetwork(t *testing.T) {
	if got := network(filepath.Join(t.TempDir(), "missing")); got != "" {
		t.Errorf("a missing folder is on %s", got)
	}

	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Skip(err)
	}

	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)

		var want bool

		switch fields[2] {
		case "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse", "virtiofs":
			want = true
		case "ext4", "tmpfs", "proc", "overlay", "xfs", "btrfs":
		default:
			continue
		}

		var st syscall.Statfs_t
		if syscall.Statfs(fields[1], &st) != nil {
			continue
		}

		// Something else may be mounted over it.
		if got := network(fields[1]); (got != "") != want && strings.Count(string(mounts), " "+fields[1]+" ") == 1 {
			t.Errorf("%s, a %s, is %q", fields[1], fields[2], got)
		}
	}
}

// When the system has no more watches, or no more watchers, it is looked at again and
// again. The limits are those of a user namespace that this test makes for itself.
func TestDirWithoutWatches(t *testing.T) {
	if limit := os.Getenv("SOURCE_TEST_LIMIT"); limit != "" {
		withoutWatches(t, limit)

		return
	}

	for _, limit := range []string{"max_inotify_watches=3", "max_inotify_instances=0"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDirWithoutWatches$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), "SOURCE_TEST_LIMIT="+limit)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}

		out, err := cmd.CombinedOutput()

		switch {
		case err != nil && cmd.ProcessState == nil:
			t.Skipf("no user namespaces here: %v", err)
		case err != nil:
			t.Errorf("%s: %v\n%s", limit, err, out)
		}
	}
}

func withoutWatches(t *testing.T, limit string) {
	name, value, _ := strings.Cut(limit, "=")
	if err := os.WriteFile("/proc/sys/user/"+name, []byte(value), 0o644); err != nil {
		t.Skip(err)
	}

	base := t.TempDir()
	writeFiles(t, base, map[string]string{"a/f": "1", "b/f": "1", "c/f": "1"})

	core, logs := observer.New(zapcore.WarnLevel)
	d := NewDir(DirConfig{Path: base, Settle: time.Millisecond, Interval: time.Hour, Poll: 10 * time.Millisecond, Logger: zap.New(core)})
	revs := watchRevisions(t, d)

	for _, want := range []string{"1", "2", "3"} {
		writeFiles(t, base, map[string]string{"c/f": want})
		until(t, revs, "c/f", want)
	}

	if warned := logs.FilterMessageSnippet("does not tell of changes"); warned.Len() != 1 {
		t.Errorf("logged %v", logs.All())
	}
}
