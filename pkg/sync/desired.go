package sync

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// desired is one accepted revision.
type desired struct {
	revision string
	author   string
	message  string
	files    fs.FS
	// whole says that every file of the revision could be read and that it holds
	// templates: only then does a missing template mean that it was taken out (G2).
	whole   bool
	targets targets
	// broken holds the targets of the revision that cannot be used, and why.
	broken map[string]error
	// fleetPending is set while the fleet resources of the revision were not tried yet:
	// clusters may need them (a MachineClass), so clusters are held back that long.
	fleetPending atomic.Bool

	mu sync.Mutex
	// left are the clusters that were found to have left Git with this revision. It only
	// grows: what maxDelete forbids is not allowed one by one (G11).
	left map[string]bool
}

// wants reports whether the revision describes a target, if only in a broken file.
func (d *desired) wants(name string) bool { return d.targets.get(name) != nil || d.broken[name] != nil }

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
	// policy and keep (why what left Git must not be destroyed; "" if it may) are decided
	// together with the look at Omni (Engine.live).
	policy Policy
	keep   string
	// unconfirmed is set if keep ends when somebody confirms it.
	unconfirmed bool
	// letGo is set when another source describes what left this one.
	letGo bool
	// moved are the fleet resources that other sources describe.
	moved []resource.Resource
	live  []resource.Resource
	// looked is what the first look of the pass that went wrong found (Engine.look).
	looked error
}

func (t *target) input(live []resource.Resource) diff.Input {
	in := diff.Input{Source: t.Source, Target: t.Target, Path: t.path(), Live: live, Removed: t.desired == nil, LetGo: t.letGo, Keep: t.keep, KeepParts: t.policy.KeepParts, PruneForeign: t.src.PruneForeign}
	if t.desired != nil {
		in.Desired = t.desired.Resources
	}

	in.Moved = t.moved

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

// keep says why what left Git must not be destroyed, and "" if it may (G2, G11). It is
// to be asked only while the snapshot is ready.
func (e *Engine) keep(t *target) string {
	t.unconfirmed = false

	switch {
	case !t.src.Prune:
		return "prune is off for this source"
	case !t.from.whole:
		return "the revision is not whole: it holds no templates, or some of its files have problems"
	case e.unread(t) != "":
		return e.unread(t) + ", and what left this one may have moved there"
	case t.desired != nil || t.Target == "":
		return ""
	case t.policy.Protected:
		return "it is protected; say " + AnnotationDeletion + ": allowed in its template before you remove that"
	}

	if path := e.leftBehind(t); path != "" {
		return path + " is still there, but it is no template any more; remove the file to delete the cluster"
	}

	t.from.mu.Lock()
	defer t.from.mu.Unlock()

	for _, cluster := range e.removedClusters(t.src, t.from) {
		if cluster.Metadata().Phase() == resource.PhaseRunning {
			t.from.left[cluster.Metadata().ID()] = true
		}
	}

	why := t.src.tooMany(t.from.left)
	t.unconfirmed = why != ""

	return why
}

// leftBehind returns the file that the template of a cluster was in if the revision still
// has it and it is no template any more: emptied, half saved, in another encoding. That
// is an accident until somebody removes the file.
func (e *Engine) leftBehind(t *target) string {
	cluster, ok := e.Snapshot.Get(omni.ClusterType, t.Target)
	if !ok {
		return ""
	}

	path, _ := cluster.Metadata().Annotations().Get(diff.MarkPath)
	if path == "" {
		return ""
	}

	for _, other := range t.from.targets {
		if other.Path == path {
			return "" // it is the template of another cluster now: a rename
		}
	}

	if _, err := fs.Stat(t.from.files, path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return ""
	}

	return path
}
