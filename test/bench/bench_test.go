// Package bench compares omni-syncd with upstream's own code doing the same work in the
// same run, through the gRPC of the embedded Omni. `make bench` runs it.
//
// The figures that count are the RPCs and the ratio between two lines of one run; the
// machines that this runs on are shared, so seconds alone say little. The embedded Omni
// runs without its controllers here: what is measured is the client, not their churn.
package bench

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"

	upstream "github.com/siderolabs/omni/client/pkg/template"
	"github.com/siderolabs/omni/client/pkg/template/operations"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

const (
	clusters = 100
	machines = 10 // per cluster: 3 control planes, 7 workers
)

// fleet returns the templates of the fleet; changed says how often cluster 0 was edited.
func fleet(changed int) fstest.MapFS {
	files := fstest.MapFS{}

	for c := range clusters {
		var t bytes.Buffer

		label := 0
		if c == 0 {
			label = changed
		}

		fmt.Fprintf(&t, `kind: Cluster
name: cluster-%03d
labels: {edit: "%d"}
kubernetes: {version: v1.34.3}
talos: {version: v1.12.0}
patches:
  - name: sysctls
    inline: {machine: {sysctls: {vm.overcommit_memory: "1"}}}
`, c, label)

		for m := range machines {
			switch m {
			case 0:
				fmt.Fprint(&t, "---\nkind: ControlPlane\nmachines:\n")
			case 3:
				fmt.Fprint(&t, "---\nkind: Workers\nmachines:\n")
			}

			fmt.Fprintf(&t, "  - %s\n", machineID(c, m))
		}

		for m := range machines {
			fmt.Fprintf(&t, `---
kind: Machine
name: %s
patches:
  - name: hostname
    inline: {machine: {nodeLabels: {node: "m%d"}}}
  - name: sysctls
    inline: {machine: {sysctls: {vm.swappiness: "%d"}}}
`, machineID(c, m), m, m)
		}

		files[fmt.Sprintf("clusters/%03d.yaml", c)] = &fstest.MapFile{Data: t.Bytes()}
	}

	return files
}

func machineID(cluster, machine int) string {
	return fmt.Sprintf("5f3a1c00-%04d-4000-8000-%012d", cluster, machine)
}

// BenchmarkRender is templates to resources, without an Omni.
func BenchmarkRender(b *testing.B) {
	files := fleet(0)

	b.Run("omni-syncd", func(b *testing.B) {
		b.ReportAllocs()

		for b.Loop() {
			set, problems := template.Find(files, template.Scope{})
			targets, refused := render.New().Render(b.Context(), set)

			if len(problems)+len(refused) > 0 || len(targets) != clusters {
				b.Fatal(problems, refused, len(targets))
			}
		}
	})

	b.Run("upstream", func(b *testing.B) {
		b.ReportAllocs()

		for b.Loop() {
			for _, file := range files {
				t, err := upstream.Load(bytes.NewReader(file.Data))
				check(b, err)
				check(b, t.Validate())
				_, err = t.Translate()
				check(b, err)
			}
		}
	})
}

// BenchmarkFirstApply fills an empty Omni.
func BenchmarkFirstApply(b *testing.B) {
	b.Run("omni-syncd", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			o := newOmni(b)
			b.StartTimer()

			d := o.daemon(b)
			o.count(b, func() { apply(b, d, fleet(0)) })

			b.StopTimer()
			d.Stop(b)
			o.Stop(b)
			b.StartTimer()
		}
	})

	b.Run("upstream", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			o := newOmni(b)
			b.StartTimer()

			o.count(b, func() { o.upstreamSync(b, fleet(0)) })

			b.StopTimer()
			o.Stop(b)
			b.StartTimer()
		}
	})
}

// BenchmarkNoOp is a pass over a fleet in which nothing changed. The daemon gets a new
// revision, compares it and finds nothing; the one-shot starts cold and reads Omni first.
func BenchmarkNoOp(b *testing.B) {
	b.Run("omni-syncd-daemon", func(b *testing.B) {
		o := newOmni(b)
		d := o.daemon(b)
		apply(b, d, fleet(0))

		for b.Loop() {
			o.count(b, func() { apply(b, d, fleet(0)) })
		}

		d.Stop(b)
		o.Stop(b)
	})

	b.Run("omni-syncd-one-shot", func(b *testing.B) {
		o := newOmni(b)
		d := o.daemon(b)
		apply(b, d, fleet(0))
		d.Stop(b)

		for b.Loop() {
			o.count(b, func() {
				d := o.daemon(b)
				apply(b, d, fleet(0))
				d.Stop(b)
			})
		}

		o.Stop(b)
	})

	b.Run("upstream", func(b *testing.B) {
		o := newOmni(b)
		o.upstreamSync(b, fleet(0))

		for b.Loop() {
			o.count(b, func() { o.upstreamSync(b, fleet(0)) })
		}

		o.Stop(b)
	})
}

// BenchmarkOneTemplateChange edits one template of the fleet.
func BenchmarkOneTemplateChange(b *testing.B) {
	edit := 0

	b.Run("omni-syncd-daemon", func(b *testing.B) {
		o := newOmni(b)
		d := o.daemon(b)
		apply(b, d, fleet(0))

		for b.Loop() {
			edit++
			files := fleet(edit)
			o.count(b, func() { apply(b, d, files) })
		}

		d.Stop(b)
		o.Stop(b)
	})

	// Upstream is told nothing of what changed, so it is run over the whole fleet, as
	// tools that call it do.
	b.Run("upstream", func(b *testing.B) {
		o := newOmni(b)
		o.upstreamSync(b, fleet(0))

		for b.Loop() {
			edit++
			files := fleet(edit)
			o.count(b, func() { o.upstreamSync(b, files) })
		}

		o.Stop(b)
	})
}

// omni is an embedded Omni that counts.
type omni struct{ *daemon.Omni }

func newOmni(b *testing.B) *omni {
	b.Helper()

	return &omni{daemon.StartOmni(b, embedded.Config{NoControllers: true})}
}

func (o *omni) daemon(b *testing.B) *daemon.Daemon {
	b.Helper()

	return daemon.Start(b, o.Omni, nil)
}

// count reports the RPCs of fn beside its time.
func (o *omni) count(b *testing.B, fn func()) {
	b.Helper()

	before := o.Calls()

	fn()

	calls := o.Calls().Since(before)
	b.ReportMetric(float64(calls.Total()), "RPCs")
	b.ReportMetric(float64(calls.Writes()), "writes")
}

// apply hands a daemon a revision and returns when all of it is Synced.
func apply(b *testing.B, d *daemon.Daemon, files fs.FS) {
	b.Helper()

	if status := d.Apply(b, files); !status.Synced() || len(status.Targets) != clusters {
		b.Fatal(daemon.Describe(status))
	}
}

// upstreamSync runs upstream's SyncTemplate over every template, one after the other.
func (o *omni) upstreamSync(b *testing.B, files fstest.MapFS) {
	b.Helper()

	dir := b.TempDir()
	check(b, os.CopyFS(dir, files))

	root, err := os.OpenRoot(dir)
	check(b, err)

	paths, err := fs.Glob(files, "clusters/*.yaml")
	check(b, err)
	slices.Sort(paths)

	for _, path := range paths {
		file, err := os.Open(filepath.Join(dir, path))
		check(b, err)
		check(b, operations.SyncTemplate(b.Context(), file, io.Discard, o.Conn.State(), operations.SyncOptions{}, root))
		check(b, file.Close())
	}

	check(b, root.Close())
}

func check(b *testing.B, err error) {
	b.Helper()

	if err != nil {
		b.Fatal(err)
	}
}
