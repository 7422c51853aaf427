package chaos

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

const (
	folder      = "clusters"
	maxMachines = 36 // workers; those of control planes come after them
	maxDelete   = 1
)

// allClusters are the names that a cluster can have.
var allClusters = []string{"c0", "c1", "c2", "c3", "c4", "c5"}

func clusterName(i uint64) string { return allClusters[i%uint64(len(allClusters))] }

// cluster is a template.
type cluster struct {
	file             string
	control, workers []string // machine IDs
	locked           bool     // the first worker is locked in Git
	machineNote      uint64   // in the label and the patch of the first worker; 0 is none
	note             uint64   // in its patches
	patches          int
	generation       int // in the names of its patches
	extension        bool
	hostile          int // marks of ours in its template; 0 is none
	damage           damage
	moved            bool // the file was renamed since the last quiet point
}

// damage is what is wrong with a file.
type damage uint64

const (
	sound damage = iota
	truncated
	emptied
	unknownKey
	noControlPlane
	garbage
	damages
)

// tree is what a commit holds.
type tree struct {
	clusters map[string]*cluster
	class    uint64 // in the fleet's MachineClass; 0 is none
	empty    bool   // the folder holds no templates
	missing  bool   // there is no such folder
	link     bool   // a link in the folder leads nowhere
	// patches are manifests: ConfigPatches by name, with the label of a cluster.
	patches map[string]patch
}

// patch is a ConfigPatch that a manifest describes.
type patch struct {
	cluster string
	note    uint64
}

func (t *tree) clone() *tree {
	c := *t
	c.clusters, c.patches = map[string]*cluster{}, maps.Clone(t.patches)

	for name, old := range t.clusters {
		copied := *old
		copied.control, copied.workers = slices.Clone(old.control), slices.Clone(old.workers)
		c.clusters[name] = &copied
	}

	return &c
}

func (t *tree) names() []string { return slices.Sorted(maps.Keys(t.clusters)) }

func (t *tree) add(name string, a, b uint64) {
	t.clusters[name] = &cluster{
		file: name + ".yaml", note: a % 1000, patches: 1 + int(b%2),
		control: controlPlane(name, false), workers: t.take(1+int(b%3), b), machineNote: a % 3,
	}
}

func (c *cluster) text(name string) string {
	var b strings.Builder

	fmt.Fprintf(&b, "kind: Cluster\nname: %s\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.12.0}\n", name)

	if c.extension {
		b.WriteString("systemExtensions: [siderolabs/iscsi-tools]\n")
	}

	b.WriteString(hostile[c.hostile%len(hostile)])

	if c.patches > 0 {
		b.WriteString("patches:\n")
	}

	for i := range c.patches {
		fmt.Fprintf(&b, "  - name: p%d-%d\n    inline: {machine: {nodeLabels: {note: \"%d\"}}}\n", i, c.generation, c.note)
	}

	if c.damage != noControlPlane {
		fmt.Fprintf(&b, "---\nkind: ControlPlane\nmachines: [%s]\n", strings.Join(c.control, ", "))
	}

	fmt.Fprintf(&b, "---\nkind: Workers\nmachines: [%s]\n", strings.Join(c.workers, ", "))

	if (c.locked || c.machineNote > 0) && len(c.workers) > 0 {
		fmt.Fprintf(&b, "---\nkind: Machine\nname: %s\nlocked: %v\n", c.workers[0], c.locked)
	}

	if c.machineNote > 1 && len(c.workers) > 0 { // a patch, or a resource of Omni 1.11
		fmt.Fprintf(&b, "install: {disk: /dev/vd%d}\n", c.note%3)
	}

	if c.machineNote > 0 && len(c.workers) > 0 {
		fmt.Fprintf(&b, "labels: {note: n%d}\npatches:\n  - name: own\n    inline: {machine: {nodeLabels: {own: \"%d\"}}}\n", c.machineNote, c.machineNote)
	}

	switch c.damage {
	case truncated:
		return b.String()[:40] + "["
	case emptied:
		return ""
	case unknownKey:
		return "colour: red\n" + b.String()
	case garbage:
		return "kind: Cluster\nname: \x01\x02" + b.String()
	default:
		return b.String()
	}
}

// hostile are annotations that a template must not get its way with: marks of ours, which mean
// nothing there.
var hostile = []string{
	"",
	"annotations: {omni-syncd/confirmed: \"1\", omni-syncd/destroying: '{\"id\":\"1\"}'}\n",
	"annotations: {omni-syncd/source: " + otherSource + ", omni-syncd/origin: '{}'}\n",
	"annotations: {omni-syncd/leaving: '{\"id\":\"1\"}', omni-syncd/kept: broken, omni-syncd/fleet: \"\"}\n",
}

// head is one revision of the branch, as it came into being.
type head struct {
	at    time.Time // just before the branch moved there
	whole bool
	// names are the clusters that it wants, or does not clearly give up.
	names   map[string]bool
	targets map[string]*render.Target
	// keys are all resources that it describes.
	keys map[ref]place
}

// shortHash is how much of a hash the daemon shows.
const shortHash = 12

// place is where a resource belongs: its cluster and machine set, if it has them.
type place struct{ cluster, set string }

func placeOf(r resource.Resource) place {
	set, _ := r.Metadata().Labels().Get(omni.LabelMachineSet)

	return place{clusterOf(r), set}
}

// repo is the Git repository, its working tree, and what was in it.
type repo struct {
	dir      string
	now      *tree
	hash     string   // of the head
	commits  []commit // since the last but one quiet point
	heads    []*head  // since the last quiet point, with the head of that moment
	seen     map[string]bool
	count    int
	renderer *render.Renderer
	// revisions are all that the branch ever was at, by their short hash.
	revisions map[string]*head
}

type commit struct {
	hash string
	tree *tree
}

func newRepo(ctx context.Context, dir string) (*repo, error) {
	r := &repo{dir: dir, now: &tree{clusters: map[string]*cluster{}, patches: map[string]patch{}}, seen: map[string]bool{}, renderer: render.New(), revisions: map[string]*head{}}

	if _, err := r.git(ctx, "init", "-q", "-b", "main"); err != nil {
		return nil, err
	}

	_, err := r.git(ctx, "config", "gc.auto", "0")

	return r, err
}

func (r *repo) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME="+r.dir,
		"GIT_AUTHOR_NAME=Chaos", "GIT_AUTHOR_EMAIL=chaos@example.com", "GIT_COMMITTER_NAME=Chaos", "GIT_COMMITTER_EMAIL=chaos@example.com")

	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}

	return strings.TrimSpace(string(out)), nil
}

// commit writes the tree as it is now and moves the branch there.
func (r *repo) commit(ctx context.Context) error {
	if err := r.write(); err != nil {
		return err
	}

	r.note()

	if _, err := r.git(ctx, "add", "-A"); err != nil {
		return err
	}

	if _, err := r.git(ctx, "commit", "-q", "--allow-empty", "-m", fmt.Sprintf("change %d", r.count)); err != nil {
		return err
	}

	var err error
	if r.hash, err = r.git(ctx, "rev-parse", "HEAD"); err != nil {
		return err
	}

	r.commits = append(r.commits, commit{r.hash, r.now.clone()})
	r.revisions[r.hash[:shortHash]] = r.head()

	return nil
}

// forcePush moves the branch back to an older commit.
func (r *repo) forcePush(ctx context.Context, pick uint64) (string, error) {
	old := r.commits[pick%uint64(len(r.commits))]
	r.now = old.tree.clone()

	for _, c := range r.now.clusters {
		c.moved = true // it is not known which name the daemon saw last
	}

	if err := r.write(); err != nil {
		return "", err
	}

	r.note()

	r.hash = old.hash
	r.revisions[r.hash[:shortHash]] = r.head()
	_, err := r.git(ctx, "reset", "-q", "--hard", old.hash)

	return old.hash[:12], err
}

func (r *repo) write() error {
	r.count++
	root := filepath.Join(r.dir, folder)

	if err := os.RemoveAll(root); err != nil {
		return err
	}

	files := map[string]string{filepath.Join(r.dir, "README.md"): fmt.Sprintf("change %d\n", r.count)}

	if !r.now.missing {
		files[filepath.Join(root, "README.md")] = "clusters\n"
	}

	if !r.now.missing && !r.now.empty {
		for name, c := range r.now.clusters {
			files[filepath.Join(root, c.file)] = c.text(name)
		}

		if r.now.class > 0 {
			files[filepath.Join(root, "fleet.yaml")] = fmt.Sprintf(
				"metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: chaos}\nspec:\n  matchlabels: [note = n%d]\n", r.now.class)
		}
	}

	if !r.now.missing && !r.now.empty {
		for name, p := range r.now.patches {
			files[filepath.Join(root, "patch-"+name+".yaml")] = fmt.Sprintf(
				"metadata: {namespace: default, type: ConfigPatches.omni.sidero.dev, id: %s, labels: {%s: %s}}\nspec:\n  data: |\n    machine: {nodeLabels: {labelled: \"%d\"}}\n",
				name, omni.LabelCluster, p.cluster, p.note)
		}
	}

	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}

		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}

	if r.now.link && !r.now.missing {
		return os.Symlink("nowhere.yaml", filepath.Join(root, "dangling.yaml"))
	}

	return nil
}

// note remembers what the working tree says, as the daemon will read it.
func (r *repo) note() {
	h := &head{at: time.Now(), names: map[string]bool{}, targets: map[string]*render.Target{}, keys: map[ref]place{}}

	set, problems := template.Find(os.DirFS(r.dir), template.Scope{Root: folder})
	targets, refused := r.renderer.Render(context.Background(), set)
	h.whole = len(problems) == 0 && len(refused) == 0 && len(targets) > 0

	for _, target := range targets {
		h.names[target.Name] = true
		h.targets[target.Name] = target

		for _, release := range embedded.Releases() { // whichever Omni is, or was
			for _, res := range target.For(livestate.Server(release + ".0")).Resources {
				h.keys[refOf(res)] = placeOf(res)
			}
		}
	}

	for name, c := range r.now.clusters {
		r.seen[name] = true

		// A file that is still there and is no template any more is no deletion.
		if c.damage != sound && !c.moved {
			h.names[name] = true
		}
	}

	r.heads = append(r.heads, h)
}

func (r *repo) head() *head { return r.heads[len(r.heads)-1] }
