package source

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
	"go.uber.org/zap"
)

// lastGoodFile is a file in the state directory that names the last good revision.
const lastGoodFile = "last-good.json"

// lastGood is the last revision that was handed out, to be found again after a restart.
type lastGood struct {
	Name   string `json:"name"`
	Ref    string `json:"ref"`
	Object string `json:"object"`
}

// remember notes the last good revision. It is a convenience: without it, a restart while
// the server is away or refuses us begins with nothing.
func (g *Git) remember(found picked) {
	if g.cfg.StateDir == "" {
		return
	}

	data, err := json.Marshal(lastGood{found.name, string(found.ref), found.object.String()})
	if err != nil {
		panic(err) // three strings
	}

	name := filepath.Join(g.cfg.StateDir, lastGoodFile)
	if err = os.WriteFile(name+".tmp", data, 0o600); err == nil {
		err = os.Rename(name+".tmp", name)
	}

	if err != nil {
		g.cfg.Logger.Warn("the last good revision cannot be noted", zap.Error(err))
	}
}

// kept returns the last good revision from before a restart, if this process has none
// yet: so that a look that fails at first leaves the last good revision in force, as a
// later one does. What has to be signed is checked again.
func (g *Git) kept(ctx context.Context) (Revision, bool) {
	if g.err != nil || g.turn.take(ctx) != nil {
		return Revision{}, false
	}
	defer g.turn.done()

	if g.closed || g.last.FS != nil || g.cfg.StateDir == "" || g.open() != nil {
		return Revision{}, false
	}

	rev, err := g.readKept()
	if err != nil {
		g.cfg.Logger.Debug("no revision from before the restart", zap.Error(err))

		return Revision{}, false
	}

	return rev, true
}

func (g *Git) readKept() (Revision, error) {
	data, err := os.ReadFile(filepath.Join(g.cfg.StateDir, lastGoodFile))
	if err != nil {
		return Revision{}, err
	}

	var note lastGood
	if err = json.Unmarshal(data, &note); err != nil {
		return Revision{}, err
	}

	found := picked{note.Name, plumbing.ReferenceName(note.Ref), plumbing.NewHash(note.Object)}

	if !g.store.has(found.object) {
		return Revision{}, fmt.Errorf("object %s is not in the store", found.object)
	}

	rev, head, err := g.revision(found)
	if err != nil {
		return Revision{}, err
	}

	if tip, ok := g.store.tip(); !ok || tip != head.Hash {
		return Revision{}, fmt.Errorf("commit %s is not the last one of the store", head.Hash)
	}

	g.last, g.of, g.found, g.commit = rev, g.store, found, head.Hash

	return rev, nil
}
