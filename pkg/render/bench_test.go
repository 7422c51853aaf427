package render_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	upstream "github.com/siderolabs/omni/client/pkg/template"

	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// BenchmarkRender renders 100 templates of 10 machines: with everything new, with nothing changed, and as omnictl
// would, one after the other.
func BenchmarkRender(b *testing.B) {
	fsys := fstest.MapFS{"patches/p.yaml": {Data: []byte("machine:\n  network:\n    kubespan:\n      enabled: true\n")}}
	for i := range 100 {
		fsys[fmt.Sprintf("c%d.yaml", i)] = &fstest.MapFile{Data: []byte(clusterText(i, 10))}
	}

	set, problems := template.Find(fsys, template.Scope{})
	if len(problems) > 0 {
		b.Fatal(problems)
	}

	b.Run("find", func(b *testing.B) {
		b.ReportAllocs()

		for b.Loop() {
			template.Find(fsys, template.Scope{})
		}
	})

	b.Run("all new", func(b *testing.B) {
		b.ReportAllocs()

		for b.Loop() {
			if targets, problems := render.New().Render(b.Context(), set); len(targets) != 100 {
				b.Fatal(problems)
			}
		}
	})

	b.Run("unchanged", func(b *testing.B) {
		r := render.New()
		r.Render(b.Context(), set)
		b.ReportAllocs()

		for b.Loop() {
			if targets, problems := r.Render(b.Context(), set); len(targets) != 100 {
				b.Fatal(problems)
			}
		}
	})

	b.Run("upstream", func(b *testing.B) { benchmarkUpstream(b, fsys) })
}

func benchmarkUpstream(b *testing.B, fsys fstest.MapFS) {
	dir := b.TempDir()
	if err := os.CopyFS(dir, fsys); err != nil {
		b.Fatal(err)
	}

	root, err := os.OpenRoot(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer root.Close()

	templates, err := fs.Glob(fsys, "*.yaml")
	if err != nil {
		b.Fatal(err)
	}

	b.ReportAllocs()

	for b.Loop() {
		for _, name := range templates {
			file, err := os.Open(filepath.Join(dir, name))
			if err != nil {
				b.Fatal(err)
			}

			tmpl, err := upstream.Load(file, upstream.WithRoot(root))
			file.Close()

			if err != nil {
				b.Fatal(err)
			}

			if err := tmpl.Validate(); err != nil {
				b.Fatal(err)
			}

			if _, err := tmpl.Translate(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
