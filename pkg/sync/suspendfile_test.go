package sync_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// A file of 10,000 reasons full of "<" was once written and could not be read again.
func TestSuspensionFile_Large(t *testing.T) {
	file := sync.SuspensionFile(filepath.Join(t.TempDir(), "suspended.json"))

	var all []sync.Suspension

	for i := range 10_000 {
		name := fmt.Sprintf("cluster-%d", i)
		s := by(&name)
		s.Reason = strings.Repeat("<", 200)
		all = append(all, s)
	}

	if err := file.Keep(all); err != nil {
		t.Fatal(err)
	}

	if got, err := file.Load(); err != nil || len(got) != len(all) {
		t.Errorf("%d of %d, %v", len(got), len(all), err)
	}
}

func TestSuspensionFile(t *testing.T) {
	file := sync.SuspensionFile(filepath.Join(t.TempDir(), "suspended.json"))
	name, fleet := "a", ""

	if all, err := file.Load(); err != nil || all != nil {
		t.Errorf("without a file: %v, %v", all, err)
	}

	want := []sync.Suspension{by(&name), by(&fleet), by(nil)}
	if err := file.Keep(want); err != nil {
		t.Fatal(err)
	}

	got, err := file.Load()
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	if info, err := os.Stat(string(file)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// everything reports whether a list suspends everything and says why.
func everything(all []sync.Suspension) bool {
	return len(all) == 1 && all[0].Source == sync.EverySource && all[0].Target == nil && strings.Contains(all[0].Reason, "everything stays suspended")
}

// `null` and `{}` were read as a list with nothing in it, which resumed everything, and a file
// that could not be read at all kept the daemon from starting.
func TestSuspensionFile_Damaged(t *testing.T) {
	for _, broken := range []string{
		"", " ", "{", "null", "{}", "[]", "0", `""`, "\x00\x00", `{"suspended": null}`, `{"suspended": {}}`, `{"suspended": "x"}`, `{"suspended": [null]}`,
		`{"suspended": [{}]}`, `{"suspended": [{"sauce": "x"}]}`, `{"suspended": [{"source": ""}]}`, `{"suspended": []} x`, `{"suspended": []}{}`,
		`{"suspended": [], "checksum": "00000000"}`,
	} {
		file := sync.SuspensionFile(filepath.Join(t.TempDir(), "suspended.json"))
		if err := os.WriteFile(string(file), []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}

		for range 2 { // a restart changes nothing
			if all, err := file.Load(); err == nil || !strings.Contains(err.Error(), "suspended.json") || !everything(all) {
				t.Errorf("%q: %v, %v", broken, all, err)
			}
		}

		// What replaces it does not throw away the only trace of what was suspended.
		if err := file.Keep(nil); err != nil {
			t.Errorf("%q: %v", broken, err)
		}

		if all, err := file.Load(); err != nil || len(all) != 0 {
			t.Errorf("%q: after it was resolved: %v, %v", broken, all, err)
		}

		if data, err := os.ReadFile(string(file) + ".damaged"); err != nil || string(data) != broken {
			t.Errorf("%q: %q, %v", broken, data, err)
		}
	}
}

// What is no file cannot be copied, so it stays where it is.
func TestSuspensionFile_Directory(t *testing.T) {
	file := sync.SuspensionFile(filepath.Join(t.TempDir(), "suspended.json"))
	if err := os.Mkdir(string(file), 0o700); err != nil {
		t.Fatal(err)
	}

	if all, err := file.Load(); err == nil || !everything(all) {
		t.Errorf("%v, %v", all, err)
	}

	if err := file.Keep(nil); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("%v", err)
	}
}

// A bit that flips in the name of a cluster resumed the cluster, and suspended another one.
func TestSuspensionFile_DamagedAnywhere(t *testing.T) {
	file := sync.SuspensionFile(filepath.Join(t.TempDir(), "suspended.json"))
	name := "production"
	want := []sync.Suspension{by(&name), by(nil)}

	if err := file.Keep(want); err != nil {
		t.Fatal(err)
	}

	good, err := os.ReadFile(string(file))
	if err != nil {
		t.Fatal(err)
	}

	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))

	t.Log("seed", seed)

	for range 1000 {
		data := bytes.Clone(good)
		data[random.IntN(len(data))] ^= 1 << random.IntN(8)

		if random.IntN(3) == 0 {
			data = data[:random.IntN(len(data))]
		}

		if err := os.WriteFile(string(file), data, 0o600); err != nil {
			t.Fatal(err)
		}

		if all, _ := file.Load(); !everything(all) && !cmp.Equal(want, all) {
			t.Fatalf("seed %d: %s: %v", seed, data, all)
		}
	}
}

// Who edits the list by hand takes the checksum out, and the layout does not matter.
func TestSuspensionFile_ByHand(t *testing.T) {
	file := sync.SuspensionFile(filepath.Join(t.TempDir(), "suspended.json"))
	if err := os.WriteFile(string(file), []byte(`{"suspended":[{"source":"fleet","by":"hand"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}

	all, err := file.Load()
	if d := cmp.Diff([]sync.Suspension{{Source: "fleet", By: "hand"}}, all); err != nil || d != "" {
		t.Error(err, d)
	}

	// As a reason with signs that JSON writes in several ways.
	all[0].Reason = "<&>\u2028\ufffd\xff"
	if err := file.Keep(all); err != nil {
		t.Fatal(err)
	}

	if _, err := file.Load(); err != nil {
		t.Error(err)
	}
}

// A list that cannot be read suspends everything, what comes later included, over a restart,
// until each source is resumed.
func TestUnreadable(t *testing.T) {
	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	k := &kept{}

	d := daemon.Start(t, o, k.use)
	d.Apply(t, fleet("1.34.3", "one"))
	d.Stop(t)

	k.all = sync.Unreadable("suspended.json", fmt.Errorf("broken"))
	d = daemon.Start(t, o, k.use)

	status := d.Apply(t, fleet("1.35.0", "one", "two"))
	if s := status.Sources[0].Suspension; s == nil || !strings.Contains(s.String(), "mend suspended.json (broken)") {
		t.Errorf("the source does not say what to do: %v", s)
	}

	for _, name := range []string{"one", "two"} {
		if got := target(status, name); got.Sync != sync.OutOfSync || !strings.Contains(got.Message, "suspended by omni-syncd since") {
			t.Errorf("%s: %+v", name, got)
		}
	}

	one, gone := "one", "gone"
	if err := d.Resume("", &one); err == nil || !strings.Contains(err.Error(), "its source test is suspended as a whole") {
		t.Errorf("%v", err)
	}

	if err := d.Resume("nobody", nil); err == nil {
		t.Error("a source that there is not was resumed")
	}

	// One more suspension does not end the others.
	if err := d.Suspend(by(&gone)); err != nil {
		t.Fatal(err)
	}

	d.Stop(t)

	d = daemon.Start(t, o, k.use)
	if got := target(d.Apply(t, fleet("1.35.0", "one")), "one"); got.Sync != sync.OutOfSync {
		t.Errorf("one after a restart: %+v", got)
	}

	if err := d.Resume(daemon.Source, nil); err != nil {
		t.Fatal(err)
	}

	d.Until(t, func(s sync.Status) bool { return s.Synced() && s.Settled() })

	if diff := cmp.Diff([]string{daemon.Source + "/gone"}, k.scopes()); diff != "" {
		t.Error(diff)
	}
}

// Resuming one source leaves the others suspended, and all can be resumed at once.
func TestUnreadable_OneOfSeveral(t *testing.T) {
	k := &kept{all: sync.Unreadable("suspended.json", fmt.Errorf("broken"))}
	cfg := sync.Config{Suspended: k.all, KeepSuspended: k.keep, Sources: []sync.SourceConfig{{Name: "a"}, {Name: "b"}, {Name: "c"}}}

	engine := sync.New(cfg)
	if err := engine.Resume("b", nil); err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff([]string{"a/*", "c/*"}, k.scopes()); diff != "" {
		t.Error(diff)
	}

	engine = sync.New(cfg)
	if err := engine.Resume(sync.EverySource, nil); err != nil {
		t.Fatal(err)
	}

	if len(k.scopes()) != 0 {
		t.Error(k.scopes())
	}
}
