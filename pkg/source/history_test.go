package source

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

func commitID(name string) plumbing.Hash { return plumbing.NewHash(fmt.Sprintf("%040x", name)) }

// known makes a history of lines like "c b a": c builds on b and a.
func known(lines ...[]string) *history {
	h := newHistory(nil)

	for _, line := range lines {
		parents := []plumbing.Hash{}
		for _, parent := range line[1:] {
			parents = append(parents, commitID(parent))
		}

		h.learn(map[plumbing.Hash][]plumbing.Hash{commitID(line[0]): parents})
	}

	return h
}

// What is in a history, what is known not to be, and what nobody can tell.
func TestHistory(t *testing.T) {
	whole := [][]string{{"a"}, {"b", "a"}, {"c", "b"}, {"side", "a"}, {"merge", "c", "side"}}
	part := [][]string{{"3", "2"}, {"4", "3"}, {"5", "4"}, {"fork", "3"}, {"fix", "fork"}, {"far", "elsewhere"}}

	for _, test := range []struct {
		facts        [][]string
		head, commit string
		want         string
	}{
		{whole, "c", "c", "yes"},
		{whole, "c", "a", "yes"},
		{whole, "merge", "side", "yes"},
		{whole, "merge", "b", "yes"},
		{whole, "c", "side", "no"},
		{whole, "a", "c", "no"},
		{whole, "c", "nobody knows it", "no"}, // everything is known of c
		{part, "5", "2", "yes"},               // it is named, though nothing is known of it
		{part, "3", "5", "no"},                // it builds on 3
		{part, "fix", "5", "no"},              // it builds on all that fix may build on
		{part, "5", "fork", "no"},
		{part, "5", "far", "unknown"},
		{part, "5", "1", "unknown"},
		{part, "nobody knows it", "5", "unknown"},
	} {
		t.Run(test.commit+" in "+test.head, func(t *testing.T) {
			h := known(test.facts...)

			for range 2 {
				yes, sure := h.follows(commitID(test.head), commitID(test.commit))
				if got := map[bool]string{true: map[bool]string{true: "yes", false: "no"}[yes], false: "unknown"}[sure]; got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
			}
		})
	}

	// What is learned later may answer what was unknown.
	h := known(part...)
	if _, sure := h.follows(commitID("5"), commitID("1")); sure {
		t.Error("known too early")
	}

	h.learn(map[plumbing.Hash][]plumbing.Hash{commitID("2"): {commitID("1")}})

	if yes, _ := h.follows(commitID("5"), commitID("1")); !yes {
		t.Error("nothing was learned")
	}
}

// A daemon fetches one commit without its history. It deleted what an older commit lacks, because it knew no better:
// after a restart, from a tag before the one that was applied, and by a branch that was moved back while it was down.
func TestGit_FollowsWhatIsOlder(t *testing.T) {
	r := newRepo(t, true)
	r.commit("0", map[string]string{"n": "0"})
	one, two := r.commit("1", map[string]string{"n": "1"}), r.commit("2", map[string]string{"n": "2"})
	three := r.commit("3", map[string]string{"n": "3"})

	for name, cfg := range transports(t, r) {
		for kept, dir := range map[string]string{"fresh": "", "state": t.TempDir()} {
			t.Run(name+" "+kept, func(t *testing.T) {
				cfg := cfg
				cfg.StateDir = dir
				r.setRef("refs/heads/main", three)

				g := NewGit(cfg)
				g.KeepHistory()
				answers(t, g, fetch(t, g).Commit, map[plumbing.Hash]string{one: "yes", three: "yes", plumbing.NewHash("12"): "no"})

				if err := g.Close(); err != nil {
					t.Fatal(err)
				}

				r.setRef("refs/heads/main", two)

				g = newTestGit(t, cfg)
				g.KeepHistory()
				older := fetch(t, g)
				answers(t, g, older.Commit, map[plumbing.Hash]string{one: "yes", two: "yes", three: "no"})

				// An ordinary commit on top does not make it newer.
				fix := r.commit("fix", map[string]string{"n": "4"})
				answers(t, g, fetch(t, g).Commit, map[plumbing.Hash]string{one: "yes", fix: "yes", three: "no"})

				merge := r.commitTree("main", "merge", r.files(nil), fix, three)
				answers(t, g, fetch(t, g).Commit, map[plumbing.Hash]string{fix: "yes", three: "yes", merge: "yes"})
				answers(t, g, older.Commit, map[plumbing.Hash]string{three: "no", merge: "no"})
			})
		}
	}
}

func answers(t *testing.T, s interface {
	Follows(head, commit string) (yes, known bool)
}, head string, want map[plumbing.Hash]string,
) {
	t.Helper()

	for commit, want := range want {
		yes, sure := s.Follows(head, commit.String())
		if got := map[bool]string{true: map[bool]string{true: "yes", false: "no"}[yes], false: "unknown"}[sure]; got != want {
			t.Errorf("%s in the history of %s: got %s, want %s", commit, head, got, want)
		}
	}
}

// The history costs one request at first, and one for each revision that builds on what is not known; who does not need
// it asks for nothing, and is told nothing.
func TestGit_HistoryRequests(t *testing.T) {
	r := newRepo(t, true)
	r.commit("0", map[string]string{"n": "0"})
	first := r.commit("1", map[string]string{"n": "1"})
	s := serve(t, r)

	g := newTestGit(t, GitConfig{URL: s.url(r)})
	head := fetch(t, g).Commit
	requests := func(want int) {
		t.Helper()

		if got, _ := s.took(); len(got) != want {
			t.Errorf("%d requests (%v), want %d", len(got), got, want)
		}
	}

	requests(2) // a look and a fetch
	answers(t, g, head, map[plumbing.Hash]string{first: "yes", plumbing.NewHash("12"): "unknown"})

	g.KeepHistory() // as a changed configuration does
	fetch(t, g)
	requests(2) // a look and the history
	answers(t, g, head, map[plumbing.Hash]string{plumbing.NewHash("12"): "no"})

	fetch(t, g)
	requests(1)

	r.commit("2", map[string]string{"n": "2"})
	fetch(t, g)
	requests(2)

	for n := range 5 {
		first = r.commit(fmt.Sprint(n), map[string]string{"n": "3"})
	}

	head = fetch(t, g).Commit
	requests(3)
	answers(t, g, head, map[plumbing.Hash]string{first: "yes", plumbing.NewHash("12"): "no"})
	requests(0)
}

// What is written down about the history is used only if all of it is there.
func TestHistory_Damaged(t *testing.T) {
	dir := t.TempDir()
	h := known([]string{"a"}, []string{"c", "a", "b"})

	if err := h.save(dir); err != nil {
		t.Fatal(err)
	}

	again := newHistory(nil)
	again.load(dir)

	if got := again.parents[commitID("c")]; !slices.Equal(got, []plumbing.Hash{commitID("a"), commitID("b")}) || len(again.parents) != 2 {
		t.Errorf("got %v", again.parents)
	}

	name := filepath.Join(dir, historyFile)

	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}

	for _, damaged := range [][]byte{data[1:], data[:len(data)-1], data[41:], slices.Concat(data[:3], []byte("f"), data[4:]), []byte("\n"), nil} {
		if err = os.WriteFile(name, damaged, 0o600); err != nil {
			t.Fatal(err)
		}

		bad := newHistory(nil)
		if bad.load(dir); len(bad.parents) > 0 {
			t.Errorf("%q was read", damaged)
		}
	}
}

// A server is asked for commits only: as many as wanted, and without what is known.
func TestHistory_Asked(t *testing.T) {
	r := newRepo(t, true)

	var commits []plumbing.Hash
	for n := range 6 {
		commits = append(commits, r.commit(fmt.Sprint(n), map[string]string{"n": fmt.Sprint(n)}))
	}

	r.setRef("refs/heads/old", commits[1])

	transports := transports(t, r)
	delete(transports, "path")

	for name, cfg := range transports {
		t.Run(name, func(t *testing.T) {
			for _, test := range []struct{ head, have, depth, want int }{{5, -1, 3, 3}, {5, -1, far, 6}, {5, 3, far, 2}, {5, 1, 3, 3}, {1, 4, far, 0}} {
				view, err := newTestGit(t, cfg).remote.look(t.Context())
				if err != nil {
					t.Fatal(err)
				}

				have := plumbing.ZeroHash
				if test.have >= 0 {
					have = commits[test.have]
				}

				got, err := view.history(t.Context(), commits[test.head], have, test.depth)
				view.done()

				if err != nil || len(got) != test.want {
					t.Errorf("%+v: got %d commits, %v", test, len(got), err)
				}

				for id, parents := range got {
					if n := slices.Index(commits, id); n < 0 || n > 0 && !slices.Equal(parents, commits[n-1:n]) {
						t.Errorf("%s builds on %v", id, parents)
					}
				}
			}
		})
	}
}
