package diff_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// Whoever may write a label or a patch must not write on the terminal of a reviewer.
func TestTextIsFitForATerminal(t *testing.T) {
	const hostile = "a\x1b[2Jb\x07\u202ec\u2066d\u009be\u200bf\u2028g\x7f\xff"

	before, after := omni.NewConfigPatch("id-\x1b[31m"), omni.NewConfigPatch("id-\x1b[31m")
	before.Metadata().Labels().Set("key\u202e", "x")
	after.Metadata().Labels().Set("key\u202e", hostile)
	after.Metadata().Annotations().Set("n\x1b]0;title\x07", "v\nw")

	if err := before.TypedSpec().Value.SetUncompressedData([]byte("a: b\n")); err != nil {
		t.Fatal(err)
	}

	if err := after.TypedSpec().Value.SetUncompressedData([]byte("a: \"" + "c\u202ed\u200b" + "\" # \u2066 e\tf ünï → 日本\n")); err != nil {
		t.Fatal(err)
	}

	plan := &diff.Plan{Target: "c\x1b[0m", Changes: []diff.Change{{Action: diff.Update, Old: before, New: after, Fields: diff.Fields(before, after)}}}

	for _, color := range []bool{false, true} {
		var out bytes.Buffer
		if err := diff.WriteText(&out, plan, diff.TextOptions{Lines: true, Color: color, Path: "p\u202e", Held: "h\x1bi"}); err != nil {
			t.Fatal(err)
		}

		text := out.String()
		if color {
			for _, ours := range []string{"\x1b[1m", "\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"} {
				text = strings.ReplaceAll(text, ours, "")
			}
		}

		if i := strings.IndexFunc(text, func(r rune) bool {
			return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || strings.ContainsRune("\u200b\u202e\u2066\u2028\ufffd", r)
		}); i >= 0 {
			t.Errorf("%q is written:\n%q", text[i:min(len(text), i+10)], text)
		}

		for _, want := range []string{`id-\x1b[31m`, `(p\u202e)`, `h\x1bi`, `c\x1b[0m`, "ünï → 日本"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		}
	}
}

func TestWriteText(t *testing.T) {
	plan := diff.Compute(diff.Input{
		Source: self, Target: "one",
		Desired: resources{
			cluster("1.35.0"), patch("200-a", "machine:\n  network:\n    hostname: b\n"), machineSet("one-workers"),
		},
		Live: resources{
			cluster("1.34.3", ours, served, note(omni.ClusterLocked, "")),
			patch("200-a", "machine:\n  network:\n    hostname: a\n", ours, served),
			patch("500-ui", "a: 1", served), machineSet("one-old", ours, served), node("one-old", ours, served),
		},
	})

	for name, opts := range map[string]diff.TextOptions{
		"plan.txt":       {Path: "clusters/one.yaml"},
		"plan-lines.txt": {Path: "clusters/one.yaml", Lines: true},
		"plan-color.txt": {Lines: true, Color: true},
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			if err := diff.WriteText(&got, plan, opts); err != nil {
				t.Fatal(err)
			}

			golden(t, name, got.String())
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()

	path := filepath.Join("testdata", name)

	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; make it with: go test ./pkg/diff -update", err)
	}

	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

func TestKind(t *testing.T) {
	for typ, want := range map[resource.Type]string{
		omni.ClusterType: "Cluster", omni.MachineSetNodeType: "MachineSetNode", omni.ConfigPatchType: "ConfigPatch",
		omni.MachineClassType: "MachineClass", omni.KernelArgsType: "KernelArgs", omni.KubernetesManifestGroupType: "KubernetesManifestGroup",
		omni.ExtensionsConfigurationType: "ExtensionsConfiguration",
	} {
		if got := diff.Kind(typ); got != want {
			t.Errorf("%s is called %s, want %s", typ, got, want)
		}
	}
}
