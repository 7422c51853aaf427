package sync

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// desired is one accepted revision.
type desired struct {
	revision string
	author   string
	message  string
	files    fs.FS
	// whole says that every file of the revision could be read: only then does a missing template mean that it was taken
	// out (G2). place is where it was read from, commit which one it is, and folder where files lies in the repository.
	whole  bool
	place  diff.Place
	commit string
	folder string
	// rewound says that the revision does not have the one before in its history: what is missing in it may be newer.
	// astray says so of this revision or of one before it.
	rewound, astray bool
	// opaque are files that nobody can read.
	opaque  []string
	targets targets
	// broken holds the targets of the revision that cannot be used, and why.
	broken map[string]error
	// fleetPending is set while the fleet resources of the revision were not tried yet:
	// clusters may need them (a MachineClass), so clusters are held back that long.
	fleetPending atomic.Bool
}

// wants reports whether the revision describes a target, if only in a broken file.
func (d *desired) wants(name string) bool { return d.targets.get(name) != nil || d.broken[name] != nil }

// has reports whether the revision describes a cluster or fleet resource, if only in a broken file.
func (d *desired) has(r resource.Resource) bool {
	if r.Metadata().Type() == omni.ClusterType {
		return d.wants(r.Metadata().ID())
	}

	fleet := d.targets.get("")

	return d.broken[""] != nil || fleet != nil && slices.ContainsFunc(fleet.Resources, func(other resource.Resource) bool { return refOf(other) == refOf(r) })
}

// fileOf returns the path of a file in the repository, which a source may read a folder of.
func (d *desired) fileOf(file string) string { return path.Join(d.folder, file) }

// fileIn returns the file that describes a resource of a target. A position inside a template is not asked for: to find it
// the template is parsed once more.
func fileIn(t *render.Target, md *resource.Metadata) string {
	if t.Path != "" {
		return t.Path
	}

	return t.Position(md).File
}

// describes reports whether a file of the repository describes anything.
func (d *desired) describes(file string) bool {
	for _, t := range d.targets {
		if t.Path != "" {
			if d.fileOf(t.Path) == file {
				return true
			}

			continue
		}

		for _, r := range t.Resources {
			if d.fileOf(fileIn(t, r.Metadata())) == file {
				return true
			}
		}
	}

	return false
}

// targets are those of one revision, sorted by name: what the next one changes is found by walking along both, and
// nothing is made for what it does not change.
type targets []*render.Target

// get returns a target by its name; nil if there is none.
func (t targets) get(name string) *render.Target {
	i, ok := slices.BinarySearchFunc(t, name, func(t *render.Target, name string) int { return strings.Compare(t.Name, name) })
	if !ok {
		return nil
	}

	return t[i]
}

// since returns what is new or another in a revision than in the one before, and what that one described and this one
// does not.
func (d *desired) since(previous *desired) (changed, gone []string) {
	before := previous.targets

	for _, t := range d.targets {
		if len(before) > 0 && before[0] == t {
			before = before[1:]

			continue
		}

		for ; len(before) > 0 && before[0].Name < t.Name; before = before[1:] {
			gone = append(gone, before[0].Name)
		}

		known := len(before) > 0 && before[0].Name == t.Name
		if !known || before[0].Digest != t.Digest {
			changed = append(changed, t.Name)
		}

		if known {
			before = before[1:]
		}
	}

	for _, t := range before {
		gone = append(gone, t.Name)
	}

	gone = slices.AppendSeq(gone, maps.Keys(previous.broken))

	return changed, slices.DeleteFunc(gone, d.wants)
}

// target is one unit of work, as it stands when a worker takes it.
type target struct {
	Key

	src  *sourceState
	from *desired
	// reopened is the record's count when the pass began.
	reopened uint64
	desired  *render.Target // nil when the target is not in Git
	broken   error
	// server is the Omni that desired is for, as of the look at it (Engine.live).
	server livestate.Server
	// policy is decided together with the look at Omni (Engine.live).
	policy Policy
	// fates are what was decided in this pass about what left Git, and countdown is for the first of it that goes.
	fates     map[ref]diff.Fate
	countdown Countdown
	// guarded says that the pass came as far as the guards, whose time begins again if not.
	guarded bool
	live    []resource.Resource
	// looked is what the first look of the pass that went wrong found (Engine.look).
	looked error
}

func (e *Engine) input(t *target, live []resource.Resource) diff.Input {
	in := diff.Input{
		Source: t.Source, Target: t.Target, Live: live, Removed: t.desired == nil,
		Place: t.from.place, Commit: t.from.commit, MayTake: func(r resource.Resource) bool { return e.mayTake(t, r) },
		Lost:      func(commit string) bool { return e.lost(t, commit) },
		KeepParts: t.policy.KeepParts, PruneForeign: t.src.PruneForeign,
		Fate: func(r resource.Resource) diff.Fate { return e.fate(t, r) },
	}

	if t.desired != nil {
		in.Desired, in.Set = t.desired.Resources, t.desired.Set()
		in.File = func(md *resource.Metadata) string { return t.from.fileOf(fileIn(t.desired, md)) }
	}

	if t.Target == "" {
		in.Hold = func(r resource.Resource) (string, resource.Resource) { return e.holds(t, r) }
	}

	return in
}

func (t *target) path() string {
	if t.desired == nil {
		return ""
	}

	return t.desired.Path
}

// brokenTargets returns the targets that were found and cannot be rendered, with the
// first problem of each.
func brokenTargets(set *template.Set, targets targets, problems template.Problems) map[string]error {
	broken := map[string]error{}

	if len(problems) == 0 {
		return broken
	}

	mentioned, first := map[string]bool{}, map[string]template.Problem{} // by file

	for _, problem := range problems {
		mentioned[problem.File] = true

		for _, file := range []string{problem.File, problem.Other.File} { // it may be in a file that the template refers to
			if _, known := first[file]; !known {
				first[file] = problem
			}
		}
	}

	add := func(name, path string) {
		if targets.get(name) != nil || broken[name] != nil {
			return
		}

		broken[name] = fmt.Errorf("%s: the file has problems", path)
		if problem, ok := first[path]; ok {
			broken[name] = problem
		}
	}

	for _, t := range set.Templates {
		if t.Name != "" {
			add(t.Name, t.Path)
		}
	}

	for _, m := range set.Manifests {
		if len(m.Problems) > 0 || mentioned[m.Path] {
			add("", m.Path)
		}
	}

	return broken
}

// lookup returns the target behind a key as it stands now; nil before the first revision
// of its source, and after the source was taken out of the configuration.
func (e *Engine) lookup(key Key) *target {
	src := e.sources.get(key.Source)
	if src == nil {
		return nil
	}

	d := src.desired.Load()
	if d == nil {
		return nil
	}

	return &target{
		Key: key, src: src, from: d, reopened: e.board.get(key).reopened,
		desired: d.targets.get(key.Target), broken: d.broken[key.Target],
	}
}

// superseded reports whether a newer revision or configuration came since a target was
// looked up.
func (e *Engine) superseded(t *target) bool {
	return e.sources.get(t.Source) != t.src || t.src.desired.Load() != t.from
}
