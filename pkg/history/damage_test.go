package history_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/omni-syncd/omni-syncd/pkg/history"
)

// whole returns the text of a history with 50 entries.
func whole(t *testing.T) []byte {
	t.Helper()

	s := open(t, history.Config{Path: filepath.Join(t.TempDir(), "history.db")})
	for n := range 50 {
		s.Add(entry("a", n))
	}

	s.Close()

	data, err := os.ReadFile(s.Path)
	if err != nil {
		t.Fatal(err)
	}

	return data
}

// opened opens what is at a path, adds an entry, and returns the entries before and what was
// logged. The new entry has to be there after a restart.
func opened(t *testing.T, path string) ([]history.Entry, *observer.ObservedLogs) {
	t.Helper()

	core, logs := observer.New(zap.WarnLevel)
	s := open(t, history.Config{Path: path, Logger: zap.New(core)})
	before := of(t, s, "a")

	added := entry("a", 60)
	s.Add(added)
	s = reopened(t, s)

	if d := cmp.Diff(append([]history.Entry{added}, before...), of(t, s, "a")); d != "" {
		t.Error("after a restart: ", d)
	}

	return before, logs
}

func warned(logs *observer.ObservedLogs, what string) bool {
	return logs.FilterMessageSnippet(what).Len() > 0
}

// G10: the daemon once did not start, or died of a fault in mapped memory, if the file was not
// what the database expected. Every kind of damage costs the entries that it is in, and the
// file is put aside.
func TestG10_Damaged(t *testing.T) {
	good := whole(t)
	lines := bytes.SplitAfter(good, []byte("\n"))

	for name, tt := range map[string]struct {
		data []byte
		want int
	}{
		"empty":                   {nil, 0},
		"cut inside an entry":     {good[:len(good)-20], 49},
		"cut inside the header":   {good[:5], 0},
		"garbage":                 {[]byte(strings.Repeat("no history ", 100_000)), 0},
		"zeros":                   {make([]byte, 1<<20), 0},
		"zeros at the end":        {append(bytes.Clone(good), make([]byte, 1<<20)...), 50},
		"of another version":      {append([]byte("omni-syncd history 2\n"), good[len(lines[0]):]...), 0},
		"a line that is too long": {append(append(bytes.Clone(good), bytes.Repeat([]byte("x"), 1<<20)...), lines[1]...), 50},
		"no newline at the end":   {good[:len(good)-1], 49},
		"no entry in a line":      {append(bytes.Clone(good), "\n"...), 50},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "history.db")
			if err := os.WriteFile(path, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}

			got, logs := opened(t, path)
			if len(got) != tt.want {
				t.Errorf("%d entries, want %d", len(got), tt.want)
			}

			if !warned(logs, "the history is damaged") {
				t.Error("no warning")
			}

			if data, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.Equal(data, tt.data) {
				t.Errorf("the damaged file was not kept for whoever wants to look at it: %d bytes, %v", len(data), err)
			}
		})
	}
}

// G10: bits that flip anywhere, and a file that ends anywhere, never bring up an entry that
// was not written.
func TestG10_DamagedAnywhere(t *testing.T) {
	good := whole(t)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))

	t.Log("seed", seed)

	for range 200 {
		data := bytes.Clone(good)

		for range 1 + random.IntN(3) {
			data[random.IntN(len(data))] ^= 1 << random.IntN(8)
		}

		if random.IntN(2) == 0 {
			data = data[:random.IntN(len(data))]
		}

		path := filepath.Join(t.TempDir(), "history.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}

		got, _ := opened(t, path)
		for _, e := range got {
			if d := cmp.Diff(entry("a", int(e.Ended.Sub(noon)/time.Minute)), e); d != "" {
				t.Fatalf("seed %d: %s", seed, d)
			}
		}
	}
}

// G10: a file that is damaged or cut while it is in use, which was a fault in mapped memory.
func TestG10_DamagedWhileOpen(t *testing.T) {
	s := open(t, history.Config{Path: filepath.Join(t.TempDir(), "history.db")})
	for n := range 50 {
		s.Add(entry("a", n))
	}

	s = reopened(t, s)

	if err := os.Truncate(s.Path, 5000); err != nil {
		t.Fatal(err)
	}

	if n := len(of(t, s, "a")); n == 0 || n == 50 {
		t.Errorf("%d entries of a file that was cut", n)
	}

	s.Add(entry("a", 60))
	s = reopened(t, s)

	if got := of(t, s, "a"); len(got) < 2 || !cmp.Equal(got[0], entry("a", 60)) {
		t.Errorf("%d entries", len(got))
	}
}

// G10: what is no file at all is put aside, too, and there is never more than some of it.
func TestG10_NoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")

	for range 3 {
		if err := os.MkdirAll(filepath.Join(path, "somebody's"), 0o700); err != nil {
			t.Fatal(err)
		}

		if _, logs := opened(t, path); !warned(logs, "the history is damaged") {
			t.Error("no warning")
		}

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}

	// There is no room for one more, and somebody's directory is not removed.
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}

	core, logs := observer.New(zap.WarnLevel)
	s := open(t, history.Config{Path: path, Logger: zap.New(core)})

	if _, err := s.Of("fleet", "a", 1); err == nil || !strings.Contains(err.Error(), "remove them") {
		t.Errorf("%v", err)
	}

	s.Add(entry("a", 1))
	s.Close()

	if n := logs.Len(); n != 1 || !warned(logs, "nothing is kept until that is over") {
		t.Errorf("%d warnings: %v", n, logs.All())
	}
}

// G12: damaged files do not add up.
func TestG12_PutAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")

	for range 10 {
		if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}

		open(t, history.Config{Path: path}).Close()
	}

	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 4 {
		t.Errorf("%v, %v", files, err)
	}
}

// G10: what is in the way may go while the daemon runs; until then entries are lost.
func TestG10_RecoversWhileRunning(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	core, logs := observer.New(zap.WarnLevel)
	s := open(t, history.Config{Path: filepath.Join(folder, "history.db"), Logger: zap.New(core)})

	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}

	s.Add(entry("a", 2))
	s = reopened(t, s)

	if got := of(t, s, "a"); len(got) != 1 {
		t.Errorf("%v", got)
	}

	if logs.Len() != 1 {
		t.Errorf("%v", logs.All())
	}
}

// G12: the file is written anew without what is over the bounds, in the middle of the work.
func TestG12_FileBounded(t *testing.T) {
	s := open(t, history.Config{Path: filepath.Join(t.TempDir(), "history.db"), PerTarget: 3, Bytes: 100_000})

	long := entry("busy", 1)
	long.Error = strings.Repeat("x", 4000)

	for n := range 3000 {
		long.Cluster = []string{"busy", "busier", "other"}[n%3]
		long.Ended = noon.Add(time.Duration(n) * time.Second)
		s.Add(long)

		if n%100 == 0 {
			s = reopened(t, s)
		}
	}

	s = reopened(t, s)

	if info, err := os.Stat(s.Path); err != nil || info.Size() > 2<<20 {
		t.Errorf("%v, %v", info, err)
	}

	if n := len(of(t, s, "busy")); n != 3 {
		t.Errorf("%d entries", n)
	}

	// All targets together.
	for n := range 50 {
		long.Cluster = string(rune('A' + n))
		long.Ended = long.Ended.Add(time.Second)
		s.Add(long)
	}

	s = reopened(t, s)

	if of(t, s, "busy") != nil || of(t, s, long.Cluster) == nil {
		t.Error("over the bound the target has to go that changed least recently")
	}

	// An entry that is too large keeps what matters.
	for range history.MaxOperations {
		long.Operations = append(long.Operations, history.Operation{Change: strings.Repeat("y", 4000)})
	}

	s.Add(long)
	s = reopened(t, s)

	if got := of(t, s, long.Cluster); got[0].Omitted != history.MaxOperations+1 {
		t.Errorf("%+v", got[0])
	}
}
