package mask_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/compression"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/diff/mask"
)

var update = flag.Bool("update", false, "write the golden files anew")

func patch(t *testing.T, data string, compressed bool) resource.Resource {
	t.Helper()

	r := omni.NewConfigPatch("one-patch")

	config, err := compression.BuildConfig(compressed, true, false)
	if err != nil {
		t.Fatal(err)
	}

	config.MinThreshold = 0

	if err := r.TypedSpec().Value.SetUncompressedData([]byte(data), specs.WithConfigCompressionOption(config)); err != nil {
		t.Fatal(err)
	}

	return r
}

func unified(t *testing.T, before, after resource.Resource, opts mask.Options) string {
	t.Helper()

	out, err := diff.UnifiedWith(&diff.Change{Action: diff.Update, Old: before, New: after}, opts)
	if err != nil {
		t.Fatal(err)
	}

	return out
}

// Each case is a file to be read: what changes in Git, and what a reviewer sees of it.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/cases/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}

	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}

			before, after := string(archive.Files[0].Data), string(archive.Files[1].Data)
			got := unified(t, patch(t, before, false), patch(t, after, false), mask.Options{})

			if compressed := unified(t, patch(t, before, true), patch(t, after, false), mask.Options{}); compressed != got {
				t.Errorf("a compressed payload reads differently:\n%s", cmp.Diff(got, compressed))
			}

			if again := unified(t, patch(t, after, true), patch(t, after, false), mask.Options{}); again != "" {
				t.Errorf("what did not change is shown:\n%s", again)
			}

			linesAreKept(t, patch(t, before, false))
			linesAreKept(t, patch(t, after, false))

			if *update {
				archive.Files = append(archive.Files[:2], txtar.File{Name: "shown.diff", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}

				return
			}

			if len(archive.Files) != 3 {
				t.Fatal("no golden part: run with -update")
			}

			if d := cmp.Diff(string(archive.Files[2].Data), got); d != "" {
				t.Error(d)
			}
		})
	}
}

// linesAreKept compares the masked text of a resource with the whole one: lines without a secret are there as they were.
func linesAreKept(t *testing.T, r resource.Resource) {
	t.Helper()

	whole := strings.Split(unified(t, nil, r, mask.Options{Show: true}), "\n")

	for _, line := range strings.Split(unified(t, nil, r, mask.Options{}), "\n")[1:] {
		if strings.Contains(line, "(secret") {
			continue
		}

		at := slices.Index(whole, line)
		if at < 0 {
			t.Errorf("%q is not in the text, or not in this order", line)

			continue
		}

		whole = whole[at+1:]
	}
}

func TestDeclared(t *testing.T) {
	before := patch(t, "machine:\n  sysctls: {a: one}\n  sysfs: {a/b: one}\n  nodeLabels: {a: one}\napp:\n  licenseKey: one\n", false)
	after := patch(t, "machine:\n  sysctls: {a: two}\n  sysfs: {a/b: two}\n  nodeLabels: {a: two}\napp:\n  licenseKey: two\n", false)
	opts := mask.Options{Declared: []string{"machine/sysctls/*", "machine/sysfs/a~1b", "licenseKey", "metadata/annotations/*"}}

	before.Metadata().Annotations().Set("note", "one")
	after.Metadata().Annotations().Set("note", "two")

	want := `@@ -3,13 +3,13 @@
   type: ConfigPatches.omni.sidero.dev
   id: one-patch
   annotations:
-    note: (secret)
+    note: (secret, changed)
 spec:
   data: |
     machine:
-      sysctls: {a: (secret)}
-      sysfs: {a/b: (secret)}
-      nodeLabels: {a: one}
+      sysctls: {a: (secret, changed)}
+      sysfs: {a/b: (secret, changed)}
+      nodeLabels: {a: two}
     app:
-      licenseKey: (secret)
+      licenseKey: (secret, changed)
   compresseddata: []
`
	if d := cmp.Diff(want, unified(t, before, after, opts)); d != "" {
		t.Error(d)
	}

	fields := diff.FieldsWith(before, after, opts)
	if got := fields[0].String(); got != "metadata.annotations[note]: (secret) → (secret, changed)" {
		t.Error(got)
	}

	if shown := unified(t, before, after, mask.Options{Show: true, Declared: opts.Declared}); strings.Contains(shown, "(secret") {
		t.Errorf("masked, although all is to be shown:\n%s", shown)
	}

	for _, bad := range []string{"", "a//b", "a/[", strings.Repeat("a/", 40) + "a"} {
		if err := (mask.Options{Declared: []string{bad}}).Validate(); err == nil {
			t.Errorf("%q is taken as a path", bad)
		}
	}
}

func TestFieldsAreMasked(t *testing.T) {
	before, after := patch(t, "a: b\n", false), patch(t, "token: |\n  a\n  b\n", false)
	before.Metadata().Labels().Set("example.com/api-token", "one")
	after.Metadata().Labels().Set("example.com/api-token", "two")
	after.Metadata().Annotations().Set("url", "https://me:pass@host/"+strings.Repeat("long/", 20))

	var got []string
	for _, field := range diff.Fields(before, after) {
		got = append(got, field.String())
	}

	if d := cmp.Diff([]string{
		"metadata.labels[example.com/api-token]: (secret) → (secret, changed)",
		"metadata.annotations[url]: +https://(secret)@host/long/long/long/long/long/long/long/lon…",
		"spec.data: changed, 1 line", // the lines of a secret are not counted
	}, got); d != "" {
		t.Error(d)
	}
}

// What is masked is a copy: the resources of a plan are what will be written.
func TestTheOriginalsStay(t *testing.T) {
	r := patch(t, "token: one\n", false)
	r.Metadata().Labels().Set("api-token", "one")

	want := r.DeepCopy()

	for _, masking := range []func(before, after resource.Resource, o mask.Options) (*mask.Pair, error){mask.New, mask.Metadata} {
		masked, err := masking(r, r, mask.Options{})
		if err != nil {
			t.Fatal(err)
		}

		if value, _ := masked.New.Metadata().Labels().Get("api-token"); value == "one" {
			t.Error("not masked")
		}
	}

	if !resource.Equal(r, want) {
		t.Errorf("%v, before: %v", r.Spec(), want.Spec())
	}
}

func TestMessage(t *testing.T) {
	_, err := configloader.NewFromBytes([]byte("machine:\n  tokn: w3ty6k\n  files:\n    - contnt: |\n        a\n        b\n"))
	if err == nil {
		t.Fatal("Talos takes a config with unknown keys")
	}

	want := `error decoding document /v1alpha1/ (line 1): unknown keys found during decoding:
machine:
    files:
        - contnt: (secret)
    tokn: (secret)
`
	if d := cmp.Diff(want, mask.Message(err.Error())); d != "" {
		t.Error(d)
	}

	if got := mask.Message("cannot reach https://me:pass@host: " + err.Error() + "\t* and {"); strings.Contains(got, "w3ty6k") || strings.Contains(got, "pass@") {
		t.Error(got)
	}

	if got := mask.Message("an extension does not exist: foo"); got != "an extension does not exist: foo" {
		t.Error(got)
	}
}
