package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	upstream "github.com/siderolabs/omni/client/pkg/template"
	yamlv4 "go.yaml.in/yaml/v4"
	"gopkg.in/yaml.v3"
)

// upstreamDir returns where the source of upstream's template code is.
func upstreamDir(t *testing.T) string {
	t.Helper()

	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/siderolabs/omni/client/pkg/template").Output()
	if err != nil {
		t.Fatal(err)
	}

	return strings.TrimSpace(string(out))
}

func parsed(t *testing.T) map[string]any {
	t.Helper()

	text, err := JSON()
	if err != nil {
		t.Fatal(err)
	}

	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}

	return schema
}

// documents returns the documents of a YAML text as JSON has them.
func documents(t *testing.T, text []byte) []any {
	t.Helper()

	var docs []any

	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc any
		if err := decoder.Decode(&doc); err != nil {
			return docs
		}

		docs = append(docs, doc)
	}
}

// TestUpstreamFixtures holds the schema against upstream's own examples.
func TestUpstreamFixtures(t *testing.T) {
	schema := parsed(t)

	files, err := filepath.Glob(filepath.Join(upstreamDir(t), "testdata", "cluster*.yaml"))
	if err != nil || len(files) < 15 {
		t.Fatalf("%d fixtures: %v", len(files), err)
	}

	for _, file := range files {
		name := filepath.Base(file)
		if strings.Contains(name, "resources") {
			continue
		}

		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}

		var faults []string
		for _, doc := range documents(t, text) {
			faults = append(faults, check(schema, schema, doc, "")...)
		}

		invalid := strings.Contains(name, "invalid") || strings.Contains(name, "bad")
		if invalid != (len(faults) > 0) {
			t.Errorf("%s: invalid is %v, and the schema says %q", name, invalid, faults)
		}

	}
}

// TestKinds reads upstream's source for kinds that this package does not know.
func TestKinds(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(upstreamDir(t), "internal", "models", "*.go"))
	if err != nil {
		t.Fatal(err)
	}

	var found []string

	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}

		for _, m := range regexp.MustCompile(`\tregister\[(\w+)\]\(`).FindAllStringSubmatch(string(text), -1) {
			found = append(found, m[1])
		}
	}

	if slices.Sort(found); !slices.Equal(found, kinds) {
		t.Errorf("upstream has the kinds %v, and the schema %v", found, kinds)
	}
}

// TestWords holds what is written down here against the keys that there are: each is described, and nothing is said about
// a key that there is not.
func TestWords(t *testing.T) {
	declared, keys := map[string]bool{"MachineID": true}, map[string]bool{}

	for name, typ := range structs() {
		for _, f := range fields(typ) {
			declared[f.owner+"."+f.key] = true
			keys[name+"."+f.key] = true

			if descriptions[f.owner+"."+f.key] == "" {
				t.Errorf("%s.%s has no description", f.owner, f.key)
			}
		}
	}

	for _, word := range slices.Concat(slices.Collect(maps.Keys(descriptions)), slices.Collect(maps.Keys(values))) {
		if !declared[word] {
			t.Errorf("%s is described and not there", word)
		}
	}

	for _, table := range []map[string][]string{required, forbidden} {
		for typ, names := range table {
			for _, name := range names {
				if !keys[typ+"."+name] {
					t.Errorf("%s.%s is not there", typ, name)
				}
			}
		}
	}
}

// whole are templates that have every key there is, in documents that upstream takes.
var whole = []string{`
kind: Cluster
name: c
labels: {a: b}
annotations: {a: b}
kubernetes:
  version: v1.30.0
  manifests:
    - {name: m, mode: full, inline: {a: b}, labels: {a: b}, annotations: {a: b}}
    - {name: n, mode: one-time, inline: [{a: b}]}
  healthchecks:
    - {name: h, idOverride: i, interval: 30s, job: {a: b}, labels: {a: b}, annotations: {a: b}}
talos: {version: v1.7.0}
features:
  diskEncryption: true
  enableWorkloadProxy: true
  useEmbeddedDiscoveryService: true
  disablePublicDiscoveryService: true
  enableNodeAuditSkip: true
  backupConfiguration: {interval: 1h}
patches:
  - {name: p, idOverride: x, inline: {machine: {}}, labels: {a: b}, annotations: {a: b}}
  - {name: q, inline: "machine: {}"}
kernelArgs: [a]
systemExtensions: [a]
---
kind: ControlPlane
machines: [aaaaaaaa-1111-2222-3333-444444444444]
bootstrapSpec: {clusterUUID: a, snapshot: b}
labels: {a: b}
annotations: {a: b}
upgradeStrategy: {type: Rolling, rolling: {maxParallelism: 2}}
patches: [{name: p, inline: {machine: {}}}]
kernelArgs: [a]
systemExtensions: [a]
---
kind: Workers
name: w
labels: {a: b}
annotations: {a: b}
machines: [bbbbbbbb-1111-2222-3333-444444444444]
updateStrategy: {type: Rolling, rolling: {maxParallelism: 2}}
deleteStrategy: {type: Unset, rolling: {maxParallelism: 2}}
upgradeStrategy: {type: Rolling, rolling: {maxParallelism: 2}}
patches: [{name: p, inline: {machine: {}}}]
kernelArgs: [a]
systemExtensions: [a]
---
kind: Workers
name: v
machineClass: {name: x, size: 3}
---
kind: Workers
name: u
machineClass: {name: x, size: unlimited}
---
kind: Machine
name: bbbbbbbb-1111-2222-3333-444444444444
labels: {a: b}
annotations: {a: b}
locked: true
install: {disk: /dev/sda}
patches: [{name: p, inline: {machine: {}}}]
kernelArgs: [a]
systemExtensions: [a]
`, `
{kind: Cluster, name: c, kubernetes: {version: 1.30.0}, talos: {version: v1.7.0}}
---
kind: ControlPlane
machineClass: {name: x, size: 3}
machines: []
`}

// probes are put in the place of every value.
var probes = []any{
	nil, "", "x", "v1.2.3", "1.2", "full", 0, -1, 1.5, true, []any{}, []any{"x"}, []any{nil}, []any{map[string]any{}}, map[string]any{}, map[string]any{"x": "y"},
}

// TestAgainstUpstream changes a valid template in every place in many ways, and wants the schema to say what upstream's
// Load and Validate say of it.
func TestAgainstUpstream(t *testing.T) {
	schema := parsed(t)
	covered := map[string]bool{}
	tried, refused := 0, 0

	for _, text := range whole {
		docs := documents(t, []byte(text))
		if got := verdict(docs); got != nil {
			t.Fatalf("upstream refuses the whole template: %v", got)
		}

		try := func(what string) {
			tried++

			var faults []string
			for _, doc := range docs {
				faults = append(faults, check(schema, schema, doc, "")...)
			}

			err := verdict(docs)
			if err != nil {
				refused++
			}

			if (err != nil) != (len(faults) > 0) && !differs(what, err, faults) {
				t.Errorf("%s: upstream says %v, the schema %q", what, err, faults)
			}
		}

		for i, doc := range docs {
			kind := doc.(map[string]any)["kind"].(string)

			change(doc, fmt.Sprintf("%s(%d)", kind, i), func(path string) { try(path) })

			for key := range doc.(map[string]any) {
				covered[kind+"."+key] = true
			}
		}
	}

	t.Logf("%d templates tried, %d of them refused", tried, refused)

	for _, kind := range kinds {
		for _, key := range Keys(kind) {
			if !covered[kind+"."+key] {
				t.Errorf("no template has the key %s of %s", key, kind)
			}
		}
	}
}

// again are places that are as they are in the Cluster.
var again = regexp.MustCompile(`^(ControlPlane|Workers|Machine)\(.*\.(patches|labels|annotations)$|\]\.(labels|annotations|inline|job)$`)

// change calls try after every change to a value below n, and takes it back.
func change(n any, path string, try func(path string)) {
	switch n := n.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(n)) {
			value, at := n[key], path+"."+key

			for _, probe := range probes {
				n[key] = probe
				try(fmt.Sprintf("%s = %#v", at, probe))
			}

			delete(n, key)
			try("without " + at)

			n[key+"x"] = value
			try("misspelt " + at)
			delete(n, key+"x")

			n[key] = value

			if !again.MatchString(at) {
				change(value, at, try)
			}
		}
	case []any:
		for i, value := range n {
			at := fmt.Sprintf("%s[%d]", path, i)

			for _, probe := range probes {
				n[i] = probe
				try(fmt.Sprintf("%s = %#v", at, probe))
			}

			n[i] = value
			change(value, at, try)
		}
	}
}

// verdict is what upstream says of a template.
func verdict(docs []any) error {
	var text bytes.Buffer

	encoder := yaml.NewEncoder(&text)
	for _, doc := range docs {
		doc, err := withoutNewer(doc)
		if err != nil {
			return err
		}

		if err := encoder.Encode(doc); err != nil {
			return err
		}
	}

	loaded, err := upstream.Load(&text)
	if err != nil {
		return err
	}

	return loaded.Validate()
}

// withoutNewer is a document without the keys that newer clients have, and says what they would say of those: they decode a
// switch.
func withoutNewer(doc any) (any, error) {
	of, _ := doc.(map[string]any)
	features, isMap := of["features"].(map[string]any)

	if !isMap || of["kind"] != "Cluster" {
		return doc, nil
	}

	of, features = maps.Clone(of), maps.Clone(features)
	of["features"] = features

	for _, n := range newer {
		switch features[n.Key].(type) {
		case nil, bool:
			delete(features, n.Key)
		default:
			return nil, fmt.Errorf("%s is not true or false", n)
		}
	}

	return of, nil
}

// TestNewer: what upstream's models have need not be added to them.
func TestNewer(t *testing.T) {
	for _, n := range newer {
		typ := structs()[n.owner]
		if typ == nil {
			t.Fatalf("upstream has no type %s", n.owner)
		}

		for i := range typ.NumField() {
			if name, _, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ","); name == n.Key {
				t.Errorf("upstream's %s has %s: take it out of the table", n.owner, n.Key)
			}
		}
	}
}

// differs reports where the schema and upstream are not of one mind, and that is meant.
func differs(what string, err error, faults []string) bool {
	if err == nil { // the schema is stricter
		switch {
		case strings.Contains(strings.Join(faults, " "), " is not "):
			// A number or a boolean where a text is meant: 1.30 is 1.3 to the next program. And nothing in a list.
			return regexp.MustCompile(`= (-?\d+(\.\d+)?|true|\[\]interface \{\}\{(3|interface \{\}\(nil\))\})$|\] = <nil>$`).MatchString(what)
		default:
			return false
		}
	}

	message := err.Error()

	switch {
	case strings.HasSuffix(what, "= <nil>") || strings.HasSuffix(what, `= ""`):
		// A key with nothing after it is one that is being written. What must not be empty is for validate to say.
		return true
	case strings.Contains(message, "failed to validate inline patch"):
		return true // what a patch holds is Talos' business
	case strings.Contains(message, "disk encryption is supported only"):
		return true // what is between a version and a feature
	case strings.Contains(message, "value out of range"), strings.Contains(message, "duplicate") && !strings.Contains(message, "mapping key"):
		return true // the size of a number, and what is between items
	default:
		return strings.Contains(message, "used in") // what is between documents
	}
}

func TestNearest(t *testing.T) {
	known := []string{"kubernetes", "kernelArgs", "name", "talos", "features", "patches"}

	for word, want := range map[string]string{
		"kuberntes": "kubernetes", "Kubernetes": "kubernetes", "kubernetse": "kubernetes", "nmae": "name", "nam": "name", "tallos": "talos",
		"kernel_args": "kernelArgs", "patch": "patches", "foo": "", "": "", "x": "", "name": "", strings.Repeat("name", 1000): "",
	} {
		if got, ok := Nearest(word, known); got != want && (ok || want != "") {
			t.Errorf("%.20q: got %q, want %q", word, got, want)
		}
	}

	if got := DidYouMean("x", []string{"b", "a"}); got != ": use one of a, b" {
		t.Errorf("got %q", got)
	}
}

func FuzzNearest(f *testing.F) {
	f.Add("kuberntes", "kubernetes")
	f.Add("\xff", "ß")

	f.Fuzz(func(t *testing.T, word, known string) {
		if got, ok := Nearest(word, []string{known}); ok && (got != known || got == word) {
			t.Errorf("got %q", got)
		}

		if len(word)+len(known) < 200 && distance(word, known) != distance(known, word) {
			t.Errorf("the distance of %q and %q depends on the order", word, known)
		}
	})
}

// TestMend wants every misspelt key back, and keeps what is right as it is.
func TestMend(t *testing.T) {
	for name, tt := range map[string]struct {
		written, want string
		lost          bool
	}{
		"right":      {"kind: Workers\nname: x\n", "kind: Workers\nname: x\n", false},
		"misspelt":   {"kind: Worker\nnmae: x\npatches:\n    - fiel: y\n", "kind: Workers\nname: x\npatches:\n    - file: y\n", false},
		"unknown":    {"kind: Workers\nreplicas: 3\n", "kind: Workers\n", true},
		"both":       {"kind: Workers\nname: x\nnmae: y\n", "kind: Workers\nname: x\n", true},
		"twice":      {"kind: Workers\nname: x\nname: y\n", "kind: Workers\nname: x\n", true},
		"not ours":   {"kind: Workers\nlabels:\n    nmae: x\n", "kind: Workers\nlabels:\n    nmae: x\n", false},
		"no mapping": {"- a\n", "- a\n", false},
		"no kind":    {"nmae: x\n", "nmae: x\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			var doc yamlv4.Node
			if err := yamlv4.Unmarshal([]byte(tt.written), &doc); err != nil {
				t.Fatal(err)
			}

			lost := Mend(doc.Content[0])

			got, err := yamlv4.Marshal(doc.Content[0])
			if err != nil || string(got) != tt.want || lost != tt.lost {
				t.Errorf("got %v, %v\n%s\nwant\n%s", err, lost, got, tt.want)
			}
		})
	}
}
