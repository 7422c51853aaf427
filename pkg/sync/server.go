package sync

import (
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

// untested says why an Omni is not written to that is newer than what this program was tried with; "" if it may be.
func (e *Engine) untested() string {
	if !e.PlanNewer {
		return ""
	}

	if why := e.Snapshot.Server().Untested(); why != "" {
		return why + ": nothing is written (`omni.newer: plan`); use a newer omni-syncd, or say `omni.newer: apply`"
	}

	return ""
}

// setServer notes which Omni it is, and returns which one was known before.
func (b *board) setServer(server omni.Server) (before omni.Server) {
	b.mu.Lock()
	defer b.mu.Unlock()

	if before = b.server; before != server {
		b.server = server
		b.changed()
	}

	return before
}

// serverKnown tells people which Omni it is, once and again when it is upgraded, and plans everything anew then: what may
// be written depends on it.
func (e *Engine) serverKnown() {
	if e.Snapshot.Err() != nil {
		return
	}

	server := e.Snapshot.Server()
	if e.board.setServer(server) == server {
		return
	}

	for _, src := range e.sources.all() {
		e.queueSource(src)
	}

	log := e.Logger.With(zap.Stringer("version", server))

	switch {
	case server.Outdated() != "":
		log.Warn("this Omni is older than omni-syncd supports: " + server.Outdated())
	case server.Untested() == "":
		log.Info("connected to Omni")
	case e.PlanNewer:
		log.Warn("this Omni is newer than omni-syncd was tested with: " + e.untested())
	default:
		log.Warn("this Omni is newer than omni-syncd was tested with; fields and kinds that only it knows are left alone: " + server.Untested())
	}
}
