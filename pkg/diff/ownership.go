package diff

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/kvutils"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// Annotations that omni-syncd writes.
const (
	// MarkSource names the source that a resource comes from. Only a resource that
	// carries it is ever destroyed (G1).
	MarkSource = "omni-syncd/source"
	// MarkOrigin says, on a cluster and a fleet resource, where it comes from: an [Origin].
	MarkOrigin = "omni-syncd/origin"
	// markPath held, on a cluster, the file of its template, before there was an Origin.
	markPath = "omni-syncd/path"
	// MarkFleet tells the fleet resources of a source from those of its clusters, so
	// that a plain ConfigPatch with a cluster label is not pruned with the cluster's own.
	MarkFleet = "omni-syncd/fleet"
	// MarkApplied remembers which labels and annotations of a fleet resource come from
	// Git, as a JSON list of "label/key" and "annotation/key": they go when they leave Git,
	// while those of other people stay. So it does for "field/key" of a cluster ([schema.Newer]).
	MarkApplied = "omni-syncd/applied"
	// MarkLocked remembers that a machine's lock comes from Git, so that taking it out
	// of Git unlocks the machine while a lock set in Omni's UI stays.
	MarkLocked = "omni-syncd/locked"
	// MarkGitOps is what newer Omni shows in its UI on objects that a GitOps tool manages.
	MarkGitOps = omni.SystemLabelPrefix + "managed-by-gitops-tools"

	// AnnotationHandover, on the Cluster of a template, names the source on the other side
	// of a hand-over. In the source that gives the cluster away: when the template leaves,
	// the cluster loses its marks instead of being deleted. In the one that takes it: the
	// marks of that source are no conflict.
	AnnotationHandover = "omni-syncd/handover"

	gitOpsTool = "omni-syncd"
)

// marks are the annotations that omni-syncd writes for itself. In a template or manifest, such as one that was exported,
// they mean nothing.
var marks = append([]string{MarkSource, MarkOrigin, markPath, MarkFleet, MarkApplied, MarkLocked, MarkGitOps}, departureMarks...)

// notes are those of the marks that a diff does not show: they say where a resource comes from and what becomes of it.
var notes = append([]string{MarkOrigin, markPath}, departureMarks...)

// IsMark reports whether an annotation is one that omni-syncd writes for itself.
func IsMark(annotation string) bool { return slices.Contains(marks, annotation) }

// SourceOf returns the source whose mark r carries, and "" if it carries none.
func SourceOf(r resource.Resource) string {
	source, _ := r.Metadata().Annotations().Get(MarkSource)

	return source
}

// IsFleet reports whether r carries the mark of a fleet resource. Its origin is one, too: a patch of a template has none, so
// somebody who takes the first mark off makes no part of a cluster of it, which would go with the next look. A cluster and what only a template makes never do,
// whatever a template says.
func IsFleet(r resource.Resource) bool {
	return (hasAnnotation(r, MarkFleet) || hasAnnotation(r, MarkOrigin)) && render.IsFleetKind(r.Metadata().Type())
}

func hasAnnotation(r resource.Resource, key string) bool {
	_, ok := r.Metadata().Annotations().Get(key)

	return ok
}

// marked returns a copy of the metadata of a desired resource with the marks of its source, and with none that it
// brought along.
func (c *computation) marked(desired resource.Resource) *resource.Metadata {
	md := desired.Metadata().Copy()

	md.Annotations().Do(func(annotations kvutils.TempKV) {
		for _, mark := range marks {
			annotations.Delete(mark)
		}

		annotations.Set(MarkSource, c.Source)

		if c.fleet {
			annotations.Set(MarkFleet, "")
			annotations.Set(MarkApplied, applied(desired))
		}

		if md.Type() == omni.ClusterType && len(c.Set) > 0 {
			annotations.Set(MarkApplied, c.appliedFields())
		}

		if c.fleet || md.Type() == omni.ClusterType {
			annotations.Set(MarkGitOps, gitOpsTool)
			annotations.Set(MarkOrigin, c.originOf(desired).encode())
		}

		if hasAnnotation(desired, omni.MachineLocked) {
			annotations.Set(MarkLocked, "")
		}
	})

	return &md
}

// originOf returns where a desired resource comes from, in place of what Omni holds of it.
func (c *computation) originOf(desired resource.Resource) Origin {
	origin := Origin{Place: c.Place, File: c.fileOf(desired), Commit: c.Commit}
	if have, ok := c.live[refOf(desired)]; ok {
		if stamped, _ := OriginOf(have); c.Lost != nil && stamped.Commit != "" && stamped.Commit != c.Commit && c.Lost(stamped.Commit) {
			return origin
		}

		return origin.stampOver(have)
	}

	return origin
}

func (c *computation) fileOf(desired resource.Resource) string {
	if c.File == nil {
		return ""
	}

	return c.File(desired.Metadata())
}

// merge makes to, the marked metadata of a desired resource, what has to be written over
// live: metadata that the server owns comes from live, and so do the labels and
// annotations that Omni keeps for itself and that a template cannot express.
//
// Labels and annotations that other people put on a fleet resource are kept too;
// those of a cluster's resources are the template's, as in omnictl.
func merge(to *resource.Metadata, live resource.Resource, fleet bool) {
	from := live.Metadata()

	to.SetVersion(from.Version())
	to.SetCreated(from.Created())
	to.SetUpdated(from.Updated())
	to.SetPhase(from.Phase())
	to.Finalizers().Set(*from.Finalizers())

	var wasOurs map[string]bool
	if fleet { // the mark of a cluster remembers fields, whatever else somebody writes into it
		wasOurs = appliedTo(live)
	}

	keep := func(kind, key string) bool {
		return !wasOurs[kind+key] && !IsMark(key) && (fleet || strings.HasPrefix(key, omni.SystemLabelPrefix))
	}

	to.Labels().Do(func(labels kvutils.TempKV) {
		keepMissing(labels, from.Labels().Raw(), func(key string) bool { return keep(appliedLabel, key) })
	})

	// A lock that Git once set and no longer sets is taken away; any other lock stays (G8).
	_, locked := to.Annotations().Get(omni.MachineLocked)
	unlock := hasAnnotation(live, MarkLocked) && !locked

	to.Annotations().Do(func(annotations kvutils.TempKV) {
		// What somebody else locked stays locked when Git says so for a while, and then no more.
		if hasAnnotation(live, omni.MachineLocked) && !hasAnnotation(live, MarkLocked) {
			annotations.Delete(MarkLocked)
		}

		keepMissing(annotations, from.Annotations().Raw(), func(key string) bool {
			switch {
			case key == MarkConfirmed: // of a guard; used up once nothing is left to do
				return confirmsGuard(live)
			case key == omni.MachineLocked && unlock:
				return false
			}

			return keep(appliedAnnotation, key)
		})
	})
}

const (
	appliedLabel      = "label/"
	appliedAnnotation = "annotation/"
)

// applied returns the value of MarkApplied for a desired resource.
func applied(desired resource.Resource) string {
	keys := []string{}

	for _, key := range desired.Metadata().Labels().Keys() {
		keys = append(keys, appliedLabel+key)
	}

	for _, key := range desired.Metadata().Annotations().Keys() {
		if !IsMark(key) {
			keys = append(keys, appliedAnnotation+key)
		}
	}

	slices.Sort(keys)

	return encodeMark(keys)
}

// appliedTo returns what MarkApplied of a live resource names; nothing if somebody broke it.
func appliedTo(live resource.Resource) map[string]bool {
	value, ok := live.Metadata().Annotations().Get(MarkApplied)
	if !ok {
		return nil
	}

	var keys []string
	if err := json.Unmarshal([]byte(value), &keys); err != nil {
		return nil
	}

	ours := make(map[string]bool, len(keys))
	for _, key := range keys {
		ours[key] = true
	}

	return ours
}

// keepMissing copies into to what from has, to lacks and keep names.
func keepMissing(to kvutils.TempKV, from map[string]string, keep func(key string) bool) {
	for key, value := range from {
		if _, ok := to.Get(key); !ok && keep(key) {
			to.Set(key, value)
		}
	}
}

// released returns a copy of live without the marks of a template.
//
// Upstream never destroys what is of a machine that leaves a template: it stays as it is and
// becomes the machine's own (client/pkg/template/template.go).
func released(live resource.Resource) resource.Resource {
	r := live.DeepCopy()

	r.Metadata().Annotations().Do(func(annotations kvutils.TempKV) {
		for _, key := range append([]string{AnnotationHandover, omni.ResourceManagedByClusterTemplates}, marks...) {
			annotations.Delete(key)
		}
	})

	return r
}

// Unlocked returns a copy of a machine's node without a lock that came from Git, and
// whether there was one. Omni removes no locked machine, so such a lock goes first (G8:
// any other lock stays, and holds the machine).
func Unlocked(node resource.Resource) (resource.Resource, bool) {
	if node.Metadata().Type() != omni.MachineSetNodeType || !hasAnnotation(node, MarkLocked) {
		return nil, false
	}

	r := node.DeepCopy()

	r.Metadata().Annotations().Do(func(annotations kvutils.TempKV) {
		annotations.Delete(omni.MachineLocked)
		annotations.Delete(MarkLocked)
	})

	return r, true
}
