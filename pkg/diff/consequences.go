package diff

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// Severity is what a consequence does to what runs in the cluster.
type Severity string

// The severities, from the worst down.
const (
	// Destructive loses data or machines: a disk is wiped, something is deleted for good.
	Destructive Severity = "destructive"
	// Disruptive restarts machines, or takes safety away for a while.
	Disruptive Severity = "disruptive"
	// Info changes nothing that runs.
	Info Severity = "info"
)

// rank orders severities, the worst first.
func (s Severity) rank() int { return slices.Index([]Severity{Destructive, Disruptive, Info}, s) }

// Consequence is what a plan does to a cluster, in words for somebody who knows neither
// Omni's resources nor this program.
type Consequence struct {
	Severity Severity
	// Text is a sentence or two on one line. It names versions, machines and paths of
	// configuration, and never holds a value of a patch or manifest.
	Text string
	// Short is the same in a few words, for a table; "" where that would say nothing.
	Short string
	// Resource is what it comes from; nil if it is about the plan as a whole.
	Resource *resource.Metadata
}

// Scene is what the consequences of a plan depend on beyond the plan. All of it may be left
// out: then what it would tell is not told. Resources are read, never written.
type Scene struct {
	// Live is what belongs to the target in Omni, as given to [Compute]. Without it nothing
	// is said about the numbers of machines, quorum, extensions and configuration.
	Live []resource.Resource
	// Desired is what Git describes, as given to [Compute].
	Desired []resource.Resource
	// Plans are those of the same run, this one among them: they tell a machine that moves
	// from one that leaves.
	Plans []*Plan
	// Whole finds everything in Omni: fleet resources reach clusters and machines that are no part
	// of their plan.
	Whole Lookup
	// Hostnames names machines by their IDs, where that is known.
	Hostnames map[resource.ID]string
}

// Consequences says what a plan does, the worst first. It is pure: the same plan and scene
// give the same words.
//
// It says what Omni and Talos do with the change and not whether it will be applied: that a
// plan is held, in conflict or would be refused is said beside it.
func Consequences(p *Plan, scene Scene) []Consequence {
	s := newStory(p, scene)

	if p.Target == "" {
		s.fleet()
	} else {
		s.cluster()
		s.machines()
		s.config()
		s.images()
		s.manifests()
		s.foreign()
	}

	s.marks()

	slices.SortStableFunc(s.told, func(a, b Consequence) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) })

	return s.told
}

// Worst returns the worst severity of a list; "" for an empty one.
func Worst(consequences []Consequence) Severity {
	worst := Severity("")

	for i := range consequences {
		if worst == "" || consequences[i].Severity.rank() < worst.rank() {
			worst = consequences[i].Severity
		}
	}

	return worst
}

// story is one run of Consequences.
type story struct {
	Scene

	plan *Plan
	// known says that there is a live state to compare with.
	known bool
	// before and after are what belongs to the target, now and when the plan is applied. What
	// is being torn down already is in neither.
	before, after map[ref]resource.Resource
	// isNew says that the cluster does not exist yet.
	isNew bool
	sets  []*machineSet
	// whole is what story.planned found, by type.
	whole map[resource.Type]map[resource.ID]resource.Resource

	told []Consequence
}

func newStory(p *Plan, scene Scene) *story {
	s := &story{Scene: scene, plan: p, known: len(scene.Live) > 0, before: map[ref]resource.Resource{}, after: map[ref]resource.Resource{}, whole: map[resource.Type]map[resource.ID]resource.Resource{}}

	for _, r := range scene.Live {
		s.stands(r)
	}

	for i := range p.Changes {
		if old := p.Changes[i].Old; old != nil {
			s.stands(old)
		}
	}

	for key, r := range s.before {
		s.after[key] = r
	}

	for i := range p.Changes {
		c := &p.Changes[i]

		for _, r := range c.destroys() {
			delete(s.after, refOf(r))
		}

		if c.New != nil {
			s.after[refOf(c.New)] = c.New
		}
	}

	s.comes(p)

	_, hasCluster := s.before[ref{omni.ClusterType, p.Target}]
	_, getsCluster := s.after[ref{omni.ClusterType, p.Target}]
	s.isNew = !hasCluster && getsCluster
	s.sets = s.machineSets()

	return s
}

// stands puts a live resource of the target into the state before.
func (s *story) stands(r resource.Resource) {
	_, ofMachine := r.Metadata().Labels().Get(omni.LabelMachine)
	belongs := s.plan.Target == "" || clusterOf(r) == s.plan.Target || render.IsOfMachine(r.Metadata().Type()) || ofMachine

	if belongs && !isTearingDown(r) {
		s.before[refOf(r)] = r
	}
}

// comes puts into the state after what a later plan brings: what waits for something else,
// and a machine that leaves one machine set for another.
func (s *story) comes(p *Plan) {
	conflicts := map[ref]bool{}
	for _, c := range p.Conflicts {
		conflicts[refOf(c.Resource)] = true
	}

	for _, want := range s.Desired {
		if _, ok := s.after[refOf(want)]; !ok && !conflicts[refOf(want)] {
			s.after[refOf(want)] = want
		}
	}
}

func (s *story) tell(severity Severity, about resource.Resource, short, format string, args ...any) {
	c := Consequence{Severity: severity, Text: fmt.Sprintf(format, args...), Short: short}
	if about != nil {
		c.Resource = about.Metadata()
	}

	s.told = append(s.told, c)
}

// update returns the live and the new version of a resource that the plan changes; ok is
// false if it does not.
func (s *story) update(typ resource.Type, id resource.ID) (have, want resource.Resource, ok bool) {
	for i := range s.plan.Changes {
		if c := &s.plan.Changes[i]; c.Action == Update && c.New.Metadata().Type() == typ && c.New.Metadata().ID() == id {
			return c.Old, c.New, true
		}
	}

	return nil, nil, false
}

// changes returns the changes of one type.
func (s *story) changes(typ resource.Type, actions ...Action) []*Change {
	var changes []*Change

	for i := range s.plan.Changes {
		if c := &s.plan.Changes[i]; c.Metadata().Type() == typ && slices.Contains(actions, c.Action) {
			changes = append(changes, c)
		}
	}

	return changes
}

// maxNamed bounds how many machines or other things one sentence names.
const maxNamed = 3

// names lists machines as people know them.
func (s *story) names(machines []resource.ID) string {
	names := make([]string, 0, len(machines))

	for _, id := range machines {
		if host := s.Hostnames[id]; host != "" {
			names = append(names, host+" ("+strings.SplitN(id, "-", 2)[0]+")")
		} else {
			names = append(names, id)
		}
	}

	return list(names)
}

// list joins names, the first few of them.
func list(names []string) string {
	last := len(names) - 1

	switch {
	case len(names) > maxNamed:
		return strings.Join(names[:maxNamed], ", ") + fmt.Sprintf(" and %d more", len(names)-maxNamed)
	case last > 0:
		return strings.Join(names[:last], ", ") + " and " + names[last]
	default:
		return strings.Join(names, "")
	}
}

// count writes a number with what is counted: 1 machine, 2 machines.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}

	return fmt.Sprintf("%d %ss", n, what)
}

// each returns one of two words, for one and for several.
func each(n int, one, several string) string {
	if n == 1 {
		return one
	}

	return several
}
