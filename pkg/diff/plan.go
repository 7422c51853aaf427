package diff

import (
	"cmp"
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// Action is what a [Change] does to a resource.
type Action string

// The actions of a plan, in the order in which a plan applies them.
const (
	// Create makes a resource that does not exist.
	Create Action = "create"
	// Adopt marks a resource that exists, is described in Git and differs in nothing else.
	Adopt Action = "adopt"
	// Update changes a resource.
	Update Action = "update"
	// Mark changes nothing but marks of a resource that is ours already. To people it is no difference.
	Mark Action = "mark"
	// Release takes our mark off a resource that left Git but must stay in Omni.
	Release Action = "release"
	// Destroy tears a resource down.
	Destroy Action = "destroy"
)

// Change is one write of a plan.
type Change struct {
	Action Action
	// Old is the live resource; nil for Create.
	Old resource.Resource
	// New is what will be written, with the version it was planned from; nil for Destroy.
	New resource.Resource
	// Fields names what differs between Old and New; empty for Create and Destroy.
	Fields []Field
	// Cascade lists what Omni itself destroys together with Old.
	Cascade []resource.Resource
	// Note says when a Destroy happens, if not at once, what a change keeps that this build does not know, and that a
	// Create stays switched off; "" if there is nothing to say.
	Note string
}

// Metadata identifies the resource that the change writes.
func (c *Change) Metadata() *resource.Metadata { return c.subject().Metadata() }

// subject returns the resource after the change, or the one that it destroys.
func (c *Change) subject() resource.Resource {
	if c.New != nil {
		return c.New
	}

	return c.Old
}

// destroys returns what is gone after the change.
func (c *Change) destroys() []resource.Resource {
	if c.Action != Destroy {
		return nil
	}

	return append([]resource.Resource{c.Old}, c.Cascade...)
}

// stage orders the actions of a plan: create, then take over, then change, then let go, then destroy (G7).
func (c *Change) stage() int {
	switch {
	case c.Action == Create:
		return 0
	case c.takesOver():
		return 1
	case c.Action == Release:
		return 3
	case c.Action == Destroy:
		return 4
	default:
		return 2
	}
}

// takesOver reports whether the resource carries the mark of another source.
func (c *Change) takesOver() bool {
	return c.Old != nil && c.New != nil && SourceOf(c.New) != "" && SourceOf(c.Old) != "" && SourceOf(c.Old) != SourceOf(c.New)
}

// Conflict is a resource that Git describes and that belongs to somebody else.
type Conflict struct {
	Resource resource.Resource
	// Reason says who holds it, in words.
	Reason string
}

// Waiting is a resource that cannot be written now and will be without anyone's doing.
type Waiting struct {
	Resource resource.Resource
	// Reason says what is awaited, in words.
	Reason string
	// Elsewhere is set for a resource that another target has to let go of first, or whose cluster nobody may write to.
	Elsewhere bool
	// For is what has to change; nil: Resource itself.
	For resource.Resource
}

// Left is a resource that left Git and is still in Omni.
type Left struct {
	Resource resource.Resource
	// Reason says why it is kept, or when it goes, in words.
	Reason string
	// Leaving is set if it goes by itself. Else it is kept: until somebody confirms if Asks is set, and else on purpose.
	Leaving, Asks bool
}

// Plan is what has to happen to one target. The zero value of every field means "nothing".
type Plan struct {
	// Source is the name of the source, as written in the ownership mark.
	Source string
	// Target is the name of the cluster; empty for the fleet resources of the source.
	Target string
	// Removed says that the target left Git and is being deleted.
	Removed bool
	// Changes are sorted as they are applied; [Plan.Phases] groups them.
	Changes []Change
	// Foreign resources live in the cluster, carry no mark and no owner, and are
	// not described in Git. They are kept.
	Foreign []resource.Resource
	// SwitchedOff are live config patches that Git describes and that somebody switched off in Omni. They stay so.
	SwitchedOff []resource.Resource
	// Left is what is ours, left Git, and stays for now or for good.
	Left []Left
	// Conflicts are resources that Git describes and that are not ours. A plan with
	// conflicts must not be applied: it would be a fight.
	Conflicts []Conflict
	// Waiting holds back what depends on it; the change notification of the
	// resource brings the target back.
	Waiting []Waiting
	// Locked says that the cluster is locked in Omni: the plan is shown, not applied (G8).
	Locked bool
}

// Empty reports whether Omni already is what Git says, and nothing is awaited.
func (p *Plan) Empty() bool {
	return len(p.Changes) == 0 && len(p.Waiting) == 0 && len(p.Conflicts) == 0 && len(p.Left) == 0
}

// OnlyMarks reports whether all that is to be done is to write marks: to people there is no difference.
func (p *Plan) OnlyMarks() bool {
	return len(p.Changes) > 0 && p.Count(Mark) == len(p.Changes) && len(p.Waiting) == 0 && len(p.Conflicts) == 0 && len(p.Left) == 0
}

// WithoutMarks returns the plan as people see it: without what only writes marks.
func (p *Plan) WithoutMarks() *Plan {
	if p.Count(Mark) == 0 {
		return p
	}

	shown := *p
	shown.Changes = slices.DeleteFunc(slices.Clone(p.Changes), func(c Change) bool { return c.Action == Mark })

	return &shown
}

// Kept returns what left Git and does not go by itself.
func (p *Plan) Kept() []Left {
	return slices.DeleteFunc(slices.Clone(p.Left), func(l Left) bool { return l.Leaving })
}

// Count returns how many changes have one of the given actions.
func (p *Plan) Count(actions ...Action) int {
	n := 0

	for i := range p.Changes {
		if slices.Contains(actions, p.Changes[i].Action) {
			n++
		}
	}

	return n
}

// Phases groups the changes: those of one phase may be written in parallel, and a
// phase starts only when the one before it has succeeded as a whole.
func (p *Plan) Phases() [][]Change {
	var phases [][]Change

	for start := 0; start < len(p.Changes); {
		end := start + 1
		for end < len(p.Changes) && comparePhase(&p.Changes[start], &p.Changes[end]) == 0 {
			end++
		}

		phases = append(phases, p.Changes[start:end])
		start = end
	}

	return phases
}

// sort puts the changes in the order in which they are applied, and every list in
// an order that does not depend on the order of the input.
func (p *Plan) sort() {
	slices.SortFunc(p.Changes, func(a, b Change) int {
		return cmp.Or(comparePhase(&a, &b), compareMetadata(a.Metadata(), b.Metadata()))
	})
	sortResources(p.Foreign)
	sortResources(p.SwitchedOff)
	slices.SortFunc(p.Left, func(a, b Left) int { return compareResources(a.Resource, b.Resource) })
	slices.SortFunc(p.Conflicts, func(a, b Conflict) int { return compareResources(a.Resource, b.Resource) })
	slices.SortFunc(p.Waiting, func(a, b Waiting) int { return compareResources(a.Resource, b.Resource) })
}

// comparePhase orders by stage, then by rank: forwards when building up, backwards
// when taking over, letting go or tearing down. So the Cluster is the last to change hands or to be released: until then
// it says that its parts are handed over and not pruned.
func comparePhase(a, b *Change) int {
	if c := cmp.Compare(a.stage(), b.stage()); c != 0 {
		return c
	}

	c := cmp.Compare(render.Rank(a.Metadata().Type()), render.Rank(b.Metadata().Type()))
	if a.Action == Destroy || a.Action == Release || a.takesOver() {
		return -c
	}

	return c
}

func compareResources(a, b resource.Resource) int {
	return compareMetadata(a.Metadata(), b.Metadata())
}

func compareMetadata(a, b *resource.Metadata) int {
	return cmp.Or(
		cmp.Compare(render.Rank(a.Type()), render.Rank(b.Type())),
		cmp.Compare(a.Type(), b.Type()),
		cmp.Compare(a.ID(), b.ID()),
	)
}

// ref identifies a resource inside a plan. The namespace is left out: every type
// that omni-syncd writes lives in one namespace.
type ref struct {
	typ resource.Type
	id  resource.ID
}

func refOf(r resource.Resource) ref {
	return ref{r.Metadata().Type(), r.Metadata().ID()}
}

func clusterOf(r resource.Resource) string {
	if r.Metadata().Type() == omni.ClusterType {
		return r.Metadata().ID()
	}

	name, _ := r.Metadata().Labels().Get(omni.LabelCluster)

	return name
}

func sortResources(rs []resource.Resource) { slices.SortFunc(rs, compareResources) }
