package template_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// An expression that picks the disk of a machine is read as a client of Omni 1.11 reads it, and judged before anything is written.
func TestDiskSelector(t *testing.T) {
	const head = "kind: Machine\nname: m\n"

	for name, test := range map[string]struct{ install, left, want string }{
		"plain":           {"install:\n  diskSelector: disk.transport == 'nvme' # fast", "install:\n  # fast", "m disk.transport == 'nvme' at c.yaml:7:3"},
		"in flow":         {`install: {diskSelector: "disk.size > 10u * GB && !disk.rotational"}`, "install: {}", "m disk.size > 10u * GB && !disk.rotational at c.yaml:6:11"},
		"over two lines":  {"install:\n  diskSelector: \"disk.readonly ||\n    disk.cdrom\"", "install:\n  ", "m disk.readonly || disk.cdrom at c.yaml:7:3"},
		"nothing":         {"install:\n  diskSelector:", "install:\n  ", ""},
		"an empty text":   {"install:\n  disk: /dev/vda\n  diskSelector: ''", "install:\n  disk: /dev/vda\n  ", "m  at c.yaml:8:3"},
		"beside a disk":   {"install:\n  diskSelector: disk.readonly\n  disk: /dev/vda", "install:\n  \n  disk: /dev/vda", "m disk.readonly at c.yaml:7:3 c.yaml:7:3: install.diskSelector cannot stand beside install.disk; take one of them out"},
		"an unknown name": {"install: {diskSelector: disk.speed > 3}", "install: {}", "m disk.speed > 3 at c.yaml:6:11 c.yaml:6:25: install.diskSelector is no expression that is true or false of a disk: 1:5: undefined field 'speed'"},
		"not a condition": {"install: {diskSelector: disk.size}", "install: {}", "m disk.size at c.yaml:6:11 c.yaml:6:25: install.diskSelector is no expression that is true or false of a disk: expression output type is uint, expected bool"},
		"a block":         {"install:\n  diskSelector: |\n    disk.readonly", "install:\n  diskSelector: |\n    disk.readonly", "c.yaml:7:3: write `diskSelector: '…'` on one line, without anchors, aliases or tags"},
		"a list":          {"install:\n  diskSelector: [a]", "install:\n  diskSelector: [a]", "c.yaml:7:3: write `diskSelector: '…'` on one line"},
	} {
		t.Run(name, func(t *testing.T) {
			const cluster = "kind: Cluster\nname: c\n---\n"

			set, _ := template.Find(fstest.MapFS{"c.yaml": {Data: []byte(cluster + head + test.install + "\n")}}, template.Scope{})
			if len(set.Templates) != 1 {
				t.Fatal("no template")
			}

			var said []string
			for _, s := range set.Templates[0].Settings() {
				said = append(said, s.Name+" "+s.Text+" at "+s.Position.String())
			}

			for _, p := range set.Templates[0].Problems {
				said = append(said, p.Error())
			}

			if got := strings.Join(said, " "); !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
				t.Errorf("got %s\nwant %s", got, test.want)
			}

			if got := string(set.Templates[0].Inlined()); got != cluster+head+test.left+"\n" {
				t.Errorf("upstream gets %q, want %q", got, cluster+head+test.left+"\n")
			}
		})
	}
}

// G12: an expression within CEL's own bounds took minutes, and its complaint was 99 KB long.
func TestG12_DiskSelectorIsBounded(t *testing.T) {
	for name, test := range map[string]struct{ expression, want string }{
		"long":       {"{" + strings.Repeat("[]:[],", 15000) + "[]:[]} == {}", "it is longer than 1024 bytes"},
		"nested":     {strings.Repeat("[", 240) + "1" + strings.Repeat("]", 240) + " == [1]", "its brackets are nested more than 24 deep"},
		"long name":  {strings.Repeat("a", 1000), "undeclared reference to 'aaa"},
		"one closed": {")))))" + strings.Repeat("(", 25), "its brackets are nested more than 24 deep"},
	} {
		set, _ := template.Find(fstest.MapFS{"c.yaml": {Data: []byte("kind: Cluster\nname: c\n---\nkind: Machine\nname: m\ninstall:\n  diskSelector: \"" + test.expression + "\"\n")}}, template.Scope{})
		if len(set.Templates) != 1 {
			t.Fatal("no template")
		}

		said := set.Templates[0].Problems.Error()
		if !strings.Contains(said, test.want) || len(said) > 400 {
			t.Errorf("%s: says %d bytes: %.500s", name, len(said), said)
		}
	}
}
