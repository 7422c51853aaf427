package sync

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// UnmanagedError says that no source manages a cluster, whether Omni has it or not.
type UnmanagedError struct{ Source, Cluster string }

func (e *UnmanagedError) Error() string {
	if e.Source != "" {
		return fmt.Sprintf("the source %q manages no cluster %q", e.Source, e.Cluster)
	}

	return fmt.Sprintf("no source manages a cluster %q", e.Cluster)
}

// NotYetError says that a cluster is not there, or that nobody can tell so far.
type NotYetError struct {
	Cluster string
	// Reason says in words what it waits for.
	Reason string
	// Unread is set if nobody can tell: Omni or a source was not read completely.
	Unread bool
}

func (e *NotYetError) Error() string {
	return fmt.Sprintf("the cluster %q is not there yet: %s", e.Cluster, e.Reason)
}

// AmbiguousError says that several sources describe a cluster that none of them has made.
type AmbiguousError struct {
	Cluster string
	Sources []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("the cluster %q is in the sources %s: name one of them", e.Cluster, strings.Join(e.Sources, ", "))
}

// Managed returns the target behind a cluster that a source of this engine manages: Omni
// has it, running, with the ownership mark of that source. Nobody is handed access to any
// other cluster.
//
// With source "" the name is enough, also if two sources describe the cluster: it is
// managed by the one whose mark it carries.
//
// The error is an [UnmanagedError], a [NotYetError] or an [AmbiguousError]. Unmanaged is
// said only of what would be seen if it were there: never of the clusters of another shard.
func (e *Engine) Managed(source, cluster string) (Key, error) {
	unmanaged := &UnmanagedError{source, cluster}

	if cluster == "" || source != "" && e.sources.get(source) == nil {
		return Key{}, unmanaged
	}

	if err := e.Snapshot.Err(); err != nil {
		return Key{}, &NotYetError{cluster, "Omni was not read completely: " + err.Error(), true}
	}

	if !e.Shard.Owns(cluster) {
		return Key{}, &NotYetError{cluster, "it belongs to " + e.otherShard(cluster), true}
	}

	live, exists := e.Snapshot.Get(omni.ClusterType, cluster)
	described, unread := e.describing(source, cluster)

	// Without the cluster's mark all that is left to tell is what it waits for.
	if !exists || diff.SourceOf(live) == "" {
		switch {
		case len(described) > 1:
			return Key{}, &AmbiguousError{cluster, described}
		case len(described) == 1:
			message := cmp.Or(e.board.get(Key{described[0], cluster}).Message, "waiting for its turn")

			if exists {
				message = "Omni has it, and it was not adopted: " + message
			}

			return Key{}, &NotYetError{cluster, message, false}
		case unread != "":
			return Key{}, &NotYetError{cluster, fmt.Sprintf("the source %s was not read so far", unread), true}
		default:
			return Key{}, unmanaged
		}
	}

	key := Key{diff.SourceOf(live), cluster}

	switch {
	case e.sources.get(key.Source) == nil, source != "" && source != key.Source:
		return Key{}, unmanaged
	case live.Metadata().Phase() != resource.PhaseRunning:
		return Key{}, &NotYetError{cluster, "it is being destroyed", false}
	case !e.board.has(key):
		// After a start, Omni may be read before Git is.
		return Key{}, &NotYetError{cluster, fmt.Sprintf("the source %s was not compared with it so far", key.Source), true}
	default:
		return key, nil
	}
}

// describing returns the sources that have a cluster as a target, sorted, and one that has
// had no revision yet and may still name it; source "" means all of them.
func (e *Engine) describing(source, cluster string) (described []string, unread string) {
	for name := range e.sources.all() {
		if source != "" && name != source {
			continue
		}

		if e.board.has(Key{name, cluster}) {
			described = append(described, name)
		}

		// The board, because it is told last: every target of the revision is there by then.
		if e.board.source(name).Revision == "" && (unread == "" || name < unread) {
			unread = name
		}
	}

	slices.Sort(described)

	return described, unread
}
