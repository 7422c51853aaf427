package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// historyFile, in the state directory, holds what was learned of the history, so that a restart does not forget it: a line
// a commit, with its parents, and the checksum of the lines.
const historyFile = "commits"

// maxHistoryFile bounds what is read of it.
const maxHistoryFile = 32 << 20

// save writes down what is known.
func (h *history) save(dir string) error {
	h.mu.Lock()
	known := maps.Clone(h.parents)
	h.mu.Unlock()

	var text bytes.Buffer

	for _, id := range slices.SortedFunc(maps.Keys(known), func(a, b plumbing.Hash) int { return bytes.Compare(a[:], b[:]) }) {
		text.WriteString(id.String())

		for _, parent := range known[id] {
			text.WriteString(" " + parent.String())
		}

		text.WriteByte('\n')
	}

	sum := sha256.Sum256(text.Bytes())
	text.WriteString(hex.EncodeToString(sum[:]))

	name := filepath.Join(dir, historyFile)
	if err := os.WriteFile(name+".new", text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write down the history: %w", err)
	}

	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write down the history: %w", err)
	}

	return nil
}

// load reads what was written down. A file that is missing or damaged is none: the history is asked for anew.
func (h *history) load(dir string) {
	name := filepath.Join(dir, historyFile)
	if info, err := os.Stat(name); err != nil || info.Size() > maxHistoryFile {
		return
	}

	data, err := os.ReadFile(name)
	if err != nil {
		return
	}

	end := bytes.LastIndexByte(data, '\n') + 1
	if sum := sha256.Sum256(data[:end]); string(data[end:]) != hex.EncodeToString(sum[:]) {
		return
	}

	known := map[plumbing.Hash][]plumbing.Hash{}

	for line := range strings.Lines(string(data[:end])) {
		var ids []plumbing.Hash

		for _, field := range strings.Fields(line) {
			ids = append(ids, plumbing.NewHash(field))
		}

		known[ids[0]] = ids[1:]
	}

	h.learn(known)
}
