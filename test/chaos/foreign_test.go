package chaos

import (
	"fmt"
	"strings"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

const (
	// ownedByOther is a cluster of another source.
	ownedByOther = foreignPrefix + "owned"
	// alien is a cluster of another source of our name, which reads another repository.
	alien = foreignPrefix + "alien"
	// secondAccount is that of a daemon with a source of the same name and another repository.
	secondAccount = "second"
	// secondPrefix starts the names of the second daemon's clusters.
	secondPrefix = "x"
)

// strayed notes a write of the second daemon to what is not its own.
func (w *world) strayed(rpc embedded.Write) {
	w.shadow.mu.Lock()
	defer w.shadow.mu.Unlock()

	cluster := rpc.ID
	if l := w.shadow.lives[ref{rpc.Type, rpc.ID}]; l != nil && l.place.cluster != "" {
		cluster = l.place.cluster
	}

	if w.shadow.lives[ref{rpc.Type, rpc.ID}] != nil && !strings.HasPrefix(cluster, secondPrefix) {
		w.shadow.broken = append(w.shadow.broken, fmt.Sprintf("the second daemon writes: %s %s of the cluster %q", rpc.Verb, ref{rpc.Type, rpc.ID}, cluster))
	}
}
