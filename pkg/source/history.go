package source

import (
	"slices"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

const (
	// maxHistory bounds how many commits are looked at to answer a question.
	maxHistory = 200_000
	// maxAnswers bounds the answers that are remembered.
	maxAnswers = 10_000
)

// history tells whether one commit has another in its history. It asks no server: it reads a repository on this machine,
// or knows what was learned with a fetch. An answer never changes, because the ID of a commit covers its parents; only
// "unknown" may become an answer. It is safe for concurrent use.
type history struct {
	// open returns what to read commits from; nil if there is nothing but what was learned.
	open func() (objectReader, error)

	mu      sync.Mutex
	parents map[plumbing.Hash][]plumbing.Hash
	answers map[[2]plumbing.Hash]bool
	last    *walk // the question is mostly about the same head
	from    objectReader
}

func newHistory(open func() (objectReader, error)) *history {
	return &history{open: open, parents: map[plumbing.Hash][]plumbing.Hash{}, answers: map[[2]plumbing.Hash]bool{}}
}

// follows reports whether head has a commit in its history, or is it. known is false if nobody can tell: the history is
// known in part only, or very long.
func (h *history) follows(head, commit plumbing.Hash) (yes, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()

	question := [2]plumbing.Hash{head, commit}
	if yes, known = h.answers[question]; known {
		return yes, true
	}

	if yes, known = h.walk(head, commit); known {
		if len(h.answers) >= maxAnswers {
			clear(h.answers)
		}

		h.answers[question] = yes
	}

	return yes, known
}

func (h *history) walk(head, commit plumbing.Hash) (yes, known bool) {
	defer func() { h.from = nil }() // opened anew: packs may change

	if h.last == nil || h.last.head != head {
		h.last = newWalk(head)
	}

	if h.open != nil && len(h.parents) > 2*maxHistory {
		clear(h.parents)
	}

	if h.find(h.last, commit) {
		return true, true
	}

	// What the commit builds on cannot build on the commit. So it is enough if its own history has every end that nothing
	// is known beyond of.
	back := newWalk(commit)

	for _, end := range slices.Concat(h.last.next, h.last.cut) {
		if !h.find(back, end) {
			return false, false
		}
	}

	return false, true
}

// walk is how far the history of a commit was followed.
type walk struct {
	head plumbing.Hash
	seen map[plumbing.Hash]bool
	// next are those seen whose parents are to be followed, and cut those whose parents are not known.
	next, cut []plumbing.Hash
}

func newWalk(head plumbing.Hash) *walk {
	return &walk{head: head, seen: map[plumbing.Hash]bool{head: true}, next: []plumbing.Hash{head}}
}

// find goes on with a walk until it meets a commit.
func (h *history) find(w *walk, commit plumbing.Hash) bool {
	if w.seen[commit] {
		return true
	}

	// What was not known may have been learned, or fetched, since.
	w.next, w.cut = append(w.next, w.cut...), nil

	for len(w.next) > 0 && len(w.seen) < maxHistory && !w.seen[commit] {
		id := w.next[0]
		w.next = w.next[1:]

		parents, ok := h.parentsOf(id)
		if !ok {
			w.cut = append(w.cut, id)
		}

		for _, parent := range parents {
			if !w.seen[parent] {
				w.seen[parent] = true
				w.next = append(w.next, parent)
			}
		}
	}

	return w.seen[commit]
}

func (h *history) parentsOf(id plumbing.Hash) ([]plumbing.Hash, bool) {
	if parents, ok := h.parents[id]; ok || h.open == nil {
		return parents, ok
	}

	if h.from == nil {
		from, err := h.open()
		if err != nil {
			from = nothing{}
		}

		h.from = from
	}

	obj, err := h.from.get(id)
	if err != nil || obj.Size() > maxMessage {
		return nil, false
	}

	commit := &object.Commit{}
	if commit.Decode(obj) != nil {
		return nil, false
	}

	h.parents[id] = commit.ParentHashes

	return commit.ParentHashes, true
}

// learn notes the parents of commits.
func (h *history) learn(parents map[plumbing.Hash][]plumbing.Hash) {
	h.mu.Lock()
	defer h.mu.Unlock()

	if len(h.parents)+len(parents) > maxHistory {
		clear(h.parents)
		h.last = nil
	}

	for id, of := range parents {
		h.parents[id] = of
	}
}

// knows reports whether the parents of all these commits are known.
func (h *history) knows(commits ...plumbing.Hash) bool {
	h.mu.Lock()
	defer h.mu.Unlock()

	return !slices.ContainsFunc(commits, func(id plumbing.Hash) bool {
		_, ok := h.parents[id]

		return !ok
	})
}

// followsText is follows for the IDs as people write them.
func (h *history) followsText(head, commit string) (yes, known bool) {
	if !plumbing.IsHash(head) || !plumbing.IsHash(commit) {
		return false, false
	}

	return h.follows(plumbing.NewHash(head), plumbing.NewHash(commit))
}
