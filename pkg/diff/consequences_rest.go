package diff

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// manifests tells what happens to what Omni applies to Kubernetes itself. Objects that leave
// a manifest are pruned, unless it is applied only once. Both modes have an inventory of their
// own: what goes from one to the other is pruned from that which prunes, and may not be taken
// over by it (kubernetes/cluster_manifest_status.go, sync).
func (s *story) manifests() {
	if s.isNew || s.deleted() {
		return
	}

	for _, c := range s.changes(omni.KubernetesManifestGroupType, Create, Update, Destroy) {
		group := c.New
		if group == nil {
			group = c.Old
		}

		once := appliedOnce(group)
		name := manifestName(c)

		switch {
		case c.Action == Create:
			s.tell(Info, group, "manifest "+name, "The Kubernetes manifest %s is applied to the cluster%s.", name, each(btoi(once), ", once", ""))
		case c.Action == Update && once && !appliedOnce(c.Old):
			s.tell(Destructive, group, "manifest −"+name, "The Kubernetes manifest %s is applied only once from now on: Omni deletes the objects that it keeps up to date so far from Kubernetes, with all that they hold. It may make them anew, or not.", name)
		case c.Action == Update && !once && appliedOnce(c.Old):
			s.tell(Disruptive, group, "manifest "+name, "The Kubernetes manifest %s is kept up to date from now on. Omni does not take over objects that it applied once: while they are in Kubernetes this fails, and no other manifest of the cluster is kept up to date either.", name)
		case c.Action == Update && once:
			s.tell(Info, group, "", "The Kubernetes manifest %s changes. It is applied only once: what was applied already stays as it is.", name)
		case c.Action == Update:
			s.tell(Disruptive, group, "manifest "+name, "The Kubernetes manifest %s is applied again. Objects that it no longer has are deleted from Kubernetes.", name)
		case once:
			s.tell(Info, group, "", "The Kubernetes manifest %s left. It was applied only once: its objects stay in Kubernetes.", name)
		default:
			s.tell(Destructive, group, "manifest −"+name, "The Kubernetes manifest %s left: its objects are deleted from Kubernetes.", name)
		}
	}

	for _, c := range s.changes(omni.KubernetesHealthCheckType, Create, Update, Destroy) {
		s.tell(Info, nil, "", "A health check (%s) %s. Talos upgrades wait for health checks between machines.", c.Metadata().ID(),
			map[Action]string{Create: "is added", Update: "changes", Destroy: "is removed"}[c.Action])
	}
}

func appliedOnce(group resource.Resource) bool {
	return group.(*omni.KubernetesManifestGroup).TypedSpec().Value.Mode == specs.KubernetesManifestGroupSpec_ONE_TIME
}

func manifestName(c *Change) string {
	if name, ok := c.Metadata().Annotations().Get(omni.KubernetesManifestName); ok {
		return name
	}

	return c.Metadata().ID()
}

// foreign tells what is destroyed although somebody else made it.
func (s *story) foreign() {
	if s.deleted() {
		return
	}

	var names []string

	for i := range s.plan.Changes {
		if c := &s.plan.Changes[i]; c.Action == Destroy && SourceOf(c.Old) == "" {
			names = append(names, Name(c.Old))
		}
	}

	slices.Sort(names)

	if n := len(names); n > 0 {
		s.tell(Destructive, nil, count(n, "foreign resource")+" removed", "%s: made by somebody else in Omni, not in Git, and removed, as the source says (`foreign: prune`).", list(names))
	}
}

// marks tells of what changes nothing but to whom something belongs.
func (s *story) marks() {
	s.adopted()

	released := 0

	for i := range s.plan.Changes {
		if c := &s.plan.Changes[i]; c.Action == Release && !render.IsOfMachine(c.Metadata().Type()) {
			released++
		}
	}

	if released > 0 {
		s.tell(Info, nil, fmt.Sprintf("%d released", released), "%s left this source and %s handed over: only the mark of this program is taken off.", count(released, "resource"), each(released, "is", "are"))
	}

	s.metadataOnly()
}

// adopted tells of resources that differ in nothing but marks.
func (s *story) adopted() {
	adopted := 0
	taken := map[string]int{}

	for i := range s.plan.Changes {
		switch c := &s.plan.Changes[i]; {
		case c.Action != Adopt:
		case SourceOf(c.Old) != "":
			taken[SourceOf(c.Old)]++
		default:
			adopted++
		}
	}

	for _, from := range slices.Sorted(maps.Keys(taken)) {
		s.tell(Info, nil, "changes hands", "%s %s hands, from the source %s to %s: only the mark of this program changes, and nothing restarts.",
			count(taken[from], "resource"), each(taken[from], "changes", "change"), from, s.plan.Source)
	}

	if adopted > 0 {
		s.tell(Info, nil, fmt.Sprintf("%d adopted", adopted), "%s in Omni as Git says and %s adopted: only the mark of this program is added, and nothing restarts.",
			count(adopted, "resource")+each(adopted, " is", " are"), each(adopted, "is", "are"))
	}
}

// metadataOnly says it of changes that are about nothing but labels and annotations.
func (s *story) metadataOnly() {
	n := 0

	for i := range s.plan.Changes {
		if c := &s.plan.Changes[i]; c.Action == Update && len(c.Fields) > 0 && !slices.ContainsFunc(c.Fields, func(f Field) bool { return !harmless(c, f) }) {
			n++
		}
	}

	if n > 0 {
		s.tell(Info, nil, "", "Only labels and annotations of %s change: nothing restarts.", count(n, "resource"))
	}
}

// harmless reports whether a field is metadata that means nothing to Omni and has no words
// of its own.
func harmless(c *Change, f Field) bool {
	return strings.HasPrefix(f.Path, "metadata.") && !strings.Contains(f.Path, "["+omni.SystemLabelPrefix) &&
		!slices.ContainsFunc(policyWords, func(p struct{ annotation, on, short, text, over string }) bool {
			return strings.Contains(f.Path, p.annotation)
		}) &&
		c.Metadata().Type() != omni.ConfigPatchType && (c.Metadata().Type() != omni.MachineLabelsType || !strings.HasPrefix(f.Path, "metadata.labels"))
}
