package source

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// G2: a folder link that led nowhere was taken for an empty folder, in Git and in a directory, and its clusters were
// deleted.
func TestG2_LinksThatLeadNowhere(t *testing.T) {
	base := map[string]string{
		"clusters/w.yaml":         clusterFile("w", "p"),
		"clusters/p":              "machine: {}\n",
		"clusters/apps@":          "../t/rel1",
		"clusters/deep/er/v.yaml": clusterFile("v", "../../p"),
		"t/rel1/a.yaml":           clusterFile("a", "../p"),
		"t/rel1/more@":            "../nested/../nested",
		"t/nested/b.yaml":         clusterFile("b", "../p"),
		"t/nested/file.yaml@":     "../../far/file.yaml",
		"far/file.yaml":           clusterFile("c", "../p"),
		"t/rel1/p":                "machine: {}\n",
	}

	for name, test := range map[string]struct {
		change map[string]string // ""; gone
		found  string
		want   string // what the problem begins with; "" for none
	}{
		"nothing":                     {nil, "w a b c v", ""},
		"the folder is renamed":       {map[string]string{"t/rel1/a.yaml": "", "t/rel1/p": "", "t/rel1/more@": "", "t/rel2/a.yaml": clusterFile("a", "../p")}, "w v", `clusters/apps: this link to "../t/rel1" leads nowhere`},
		"the folder that it leads to": {map[string]string{"t/nested/b.yaml": "", "t/nested/file.yaml@": ""}, "w a v", `clusters/apps/more: this link to "../nested/../nested" leads nowhere`},
		"the file of a link":          {map[string]string{"far/file.yaml": ""}, "w a b v", `clusters/apps/more/file.yaml: this link to "../../far/file.yaml" leads nowhere`},
		"a link to a link":            {map[string]string{"clusters/deep/l@": "../l", "clusters/l@": "gone"}, "w a b c v", `clusters/deep/l: this link to "../l" leads nowhere`},
		"a file in place of a folder": {map[string]string{"clusters/apps@": "p/x"}, "w v", `clusters/apps: this link to "p/x" leads nowhere`},
		"in a circle":                 {map[string]string{"clusters/apps@": "../clusters/apps"}, "w v", "clusters/apps: cannot be read: too many symbolic links"},
		"out of the tree":             {map[string]string{"clusters/apps@": "../../x"}, "w v", "clusters/apps: cannot be read: the symbolic link leaves the tree"},
		"to a device":                 {map[string]string{"clusters/apps@": "/dev/null"}, "w v", "clusters/apps: cannot be read: the symbolic link points to /dev/null"},
		"what is left out":            {map[string]string{"clusters/deep/apps@": "../..gone/x"}, "w a b c v", `clusters/deep/apps: this link to "../..gone/x" leads nowhere`},
		"litter several levels down":  {map[string]string{"clusters/deep/er/still/notes.md@": "gone"}, "w a b c v", `clusters/deep/er/still/notes.md: this link to "gone" leads nowhere`},
		"litter that is hidden":       {map[string]string{"clusters/deep/.notes@": "gone"}, "w a b c v", ""},
		"litter elsewhere":            {map[string]string{"t/notes@": "gone"}, "w a b c v", ""},
		"a link that is removed":      {map[string]string{"clusters/apps@": ""}, "w v", ""},
		"a folder that is removed":    {map[string]string{"clusters/deep/er/v.yaml": ""}, "w a b c", ""},
	} {
		for kind, revisions := range map[string]func(files ...map[string]string) []fs.FS{"git": gitTrees(t), "dir": dirTrees(t)} {
			t.Run(name+", "+kind, func(t *testing.T) {
				trees := revisions(changed(base, test.change)...)
				scope := template.Scope{Root: "clusters"}

				before, _ := template.Find(trees[0], scope)
				for how, set := range map[string]*template.Set{"anew": nil, "after another": before} {
					set, problems := set.Next(trees[len(trees)-1], scope)

					var names []string
					for _, found := range set.Templates {
						names = append(names, found.Name)
					}

					want := strings.Fields(test.found)
					slices.Sort(want)
					slices.Sort(names)

					if !slices.Equal(names, want) {
						t.Errorf("%s: found %q, want %q", how, names, want)
					}

					if got := problems.Error(); test.want == "" && got != "" || !slices.ContainsFunc(append(problems, template.Problem{}), func(p template.Problem) bool { return strings.HasPrefix(p.Error(), test.want) }) {
						t.Errorf("%s: problems\n%s\nwant %s", how, got, test.want)
					}
				}
			})
		}
	}
}

// G2: whatever links lead through whichever folders, a template that was read along a link that now leads nowhere is not
// missed without a problem.
func TestG2_LinksRandomly(t *testing.T) {
	for kind, revisions := range map[string]func(files ...map[string]string) []fs.FS{"git": gitTrees(t), "dir": dirTrees(t)} {
		t.Run(kind, func(t *testing.T) {
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 0))
			cut := 0

			for round := 0; round < 10 || cut < 10 && round < 500; round++ {
				before := map[string]string{"root/keep.yaml": clusterFile("keep", "p")}
				folders := []string{"root"}

				for n := range 12 {
					parent := pick(random, folders...)
					name := fmt.Sprintf("%s/%c", pick(random, parent, "data"), 'a'+n)

					switch random.IntN(3) {
					case 0:
						before[name+".yaml"] = clusterFile(fmt.Sprint("c", n), "p")
					case 1:
						before[name+"/t.yaml"] = clusterFile(fmt.Sprint("c", n), "p")
						folders = append(folders, name)
					default:
						up := strings.Repeat("../", strings.Count(name, "/"))
						before[name+"@"] = up + pick(random, append(folders, "data")...)
					}
				}

				after := maps.Clone(before)
				gone := pick(random, slices.Sorted(maps.Keys(after))...)

				if target, ok := strings.CutSuffix(gone, "@"); ok {
					gone = strings.ReplaceAll(after[gone], "../", "") // or what it leads to
					gone = pick(random, gone, gone, target)
				}

				maps.DeleteFunc(after, func(name, _ string) bool {
					return strings.TrimSuffix(name, "@") == gone || strings.HasPrefix(name, gone+"/")
				})

				trees, scope := revisions(before, after), template.Scope{Root: "root"}
				was, _ := template.Find(trees[0], scope)
				_, problems := was.Next(trees[1], scope)

				for _, lost := range was.Templates {
					for at := lost.Path; at != "."; at = path.Dir(at) {
						_, isLink := fs.ReadLink(trees[1], at)
						if _, err := fs.Stat(trees[1], at); isLink == nil && err != nil {
							cut++

							if !strings.Contains(problems.Error(), at+": ") {
								t.Errorf("seed %d: %s was read through %s; without %s:\n%q\n%v", seed, lost.Path, at, gone, before, problems)
							}
						}
					}
				}
			}

			if cut == 0 {
				t.Errorf("seed %d: no link was cut", seed)
			}
		})
	}
}

// watchMoves follows a directory until the test ends, and returns what gives the revisions so far.
func watchMoves(t *testing.T, d *Dir) func() []Revision {
	var (
		mu   sync.Mutex
		revs []Revision
	)

	go d.Watch(t.Context(), func(rev Revision, err error) { //nolint:errcheck // nil
		mu.Lock()
		defer mu.Unlock()

		if err != nil {
			t.Error(err)
		}

		revs = append(revs, rev)
	})

	return func() []Revision {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()

		return slices.Clone(revs)
	}
}

// G2: a directory that was copied file by file was read after two seconds and taken for all there is, and the clusters of
// 14 of its 24 files were deleted.
func TestG2_DirectoryOnTheMove(t *testing.T) {
	for name, pauses := range map[string][]time.Duration{
		"steadily":    {160 * time.Millisecond},
		"with pauses": {160 * time.Millisecond, 160 * time.Millisecond, 160 * time.Millisecond, 400 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{}

			for i := range 24 {
				files[fmt.Sprintf("%02d.yaml", i)] = fmt.Sprint(i)
			}

			writeFiles(t, dir, files)

			synctest.Test(t, func(t *testing.T) {
				d := NewDir(DirConfig{Path: dir, Poll: 100 * time.Millisecond})
				d.notify = func() (*fsnotify.Watcher, error) { return nil, errors.New("no space left on device") }

				revisions := watchMoves(t, d)
				time.Sleep(10 * time.Second)

				for name := range files {
					remove(t, filepath.Join(dir, name))
				}

				for i, name := range slices.Sorted(maps.Keys(files)) {
					time.Sleep(pauses[i%len(pauses)])
					writeFiles(t, dir, map[string]string{name: files[name]})
				}

				during := revisions()

				time.Sleep(5 * time.Second)

				after := revisions()

				if len(during) < 2 || moving(during[0]) {
					t.Fatalf("%d revisions while it is copied", len(during))
				}

				for _, rev := range after {
					entries, err := fs.ReadDir(rev.FS, ".")
					if err != nil {
						t.Fatal(err)
					}

					if len(entries) < len(files) != moving(rev) && len(entries) != len(files) {
						t.Errorf("%d of %d files, and moving is %v", len(entries), len(files), moving(rev))
					}
				}

				if last := after[len(after)-1]; last.ID != after[0].ID || moving(last) {
					t.Error("it did not come to rest")
				}
			})
		})
	}
}

// writeAllTheTime writes a file again and again until stop is called.
func writeAllTheTime(t *testing.T, name string) (stop func()) {
	var writer sync.WaitGroup

	done := make(chan struct{})

	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(90 * time.Millisecond):
				writeFiles(t, filepath.Dir(name), map[string]string{filepath.Base(name): fmt.Sprint(i)})
			}
		}
	})

	return func() {
		close(done)
		writer.Wait()
	}
}

// What has not come to rest is looked at again soon, also if nothing tells that it did.
func TestDirRestsSoon(t *testing.T) {
	dir := t.TempDir()

	synctest.Test(t, func(t *testing.T) {
		stop := writeAllTheTime(t, dir+"/f")

		d := NewDir(DirConfig{Path: dir, Interval: time.Hour, Poll: time.Hour})
		d.notify = func() (*fsnotify.Watcher, error) { return nil, errors.New("no space left on device") }

		revisions := watchMoves(t, d)

		time.Sleep(5 * time.Second)

		if revs := revisions(); len(revs) == 0 || !moving(revs[len(revs)-1]) {
			t.Errorf("while it moves: %v", revs)
		}

		stop()
		time.Sleep(5 * time.Second)

		if revs := revisions(); moving(revs[len(revs)-1]) {
			t.Error("it rests, and nobody has looked")
		}
	})
}

// G2: one look at a directory that never rests ends in time, and says so.
func TestG2_OneLookOnTheMove(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"f": "0"})

	synctest.Test(t, func(t *testing.T) {
		stop := writeAllTheTime(t, dir+"/f")
		d, start := NewDir(DirConfig{Path: dir}), time.Now()
		rev := fetch(t, d)

		if took := time.Since(start); !moving(rev) || took > 4*time.Second {
			t.Errorf("moving is %v after %s", moving(rev), took)
		}

		stop()

		again := fetch(t, d)
		if moving(again) || again.FS == rev.FS {
			t.Error("it did not come to rest")
		}
	})
}

// The times of files decide on a local directory: what changed a moment ago has not come to rest, however often it is
// looked at; what rests is another revision, of the same ID.
func TestG2_DirectoryNotAtRest(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"f": "1"})

	d := NewDir(DirConfig{Path: dir, Settle: time.Hour})
	look := func(deadline time.Time) Revision {
		t.Helper()

		rev, err := d.attempt(t.Context(), deadline)
		if err != nil {
			t.Fatal(err)
		}

		return rev
	}

	first := look(time.Now())
	if second := look(time.Now()); !moving(first) || second != first {
		t.Errorf("moving: %v, %v", first, second)
	}

	d.cfg.Settle = time.Nanosecond
	time.Sleep(10 * time.Millisecond) // ten times Settle are over

	rest := look(time.Now().Add(time.Hour))
	if moving(rest) || rest.ID != first.ID || rest.FS == first.FS || !moving(first) {
		t.Errorf("at rest: %v, %v", first, rest)
	}

	if !d.moving.IsZero() {
		t.Error("it rests, and still moves")
	}
}

// A copy that pauses for a moment has not come to rest.
func TestDirRest(t *testing.T) {
	d := NewDir(DirConfig{})
	start := time.Now()

	for _, step := range []struct{ after, want time.Duration }{
		{0, 200 * time.Millisecond},
		{100 * time.Millisecond, 200 * time.Millisecond},
		{700 * time.Millisecond, 700 * time.Millisecond},
		{-time.Hour, 200 * time.Millisecond}, // it was put in with an old time
		{time.Minute, 2 * time.Second},
	} {
		if got := d.rest(start.Add(step.after)); got != step.want {
			t.Errorf("after %s: got %s, want %s", step.after, got, step.want)
		}
	}
}

// What the system tells of counts from the first change on.
func TestDirStirred(t *testing.T) {
	dir := t.TempDir()
	d := NewDir(DirConfig{Path: dir, Settle: 50 * time.Millisecond})

	w := &watcher{root: dir, notify: d.notify, network: d.network, poll: time.Hour, log: d.cfg.Logger, stirred: d.stirred}
	defer w.close()

	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}

	w.follow(map[string]fs.FileInfo{dir: info})

	before := time.Now()

	writeFiles(t, dir, map[string]string{"f": "1"})

	if !w.wait(t.Context(), time.Hour, d.cfg.Settle, d.poke) || d.moving.Before(before) || time.Since(d.moving) < d.cfg.Settle {
		t.Errorf("began at %v, not after %v", d.moving, before)
	}
}
