package template_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

const opaqueCluster = "kind: Cluster\nname: a\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.12.0}\n---\nkind: ControlPlane\nmachines: []\n"

// G2: a template that was renamed and encrypted, or renamed and cut off, looked like one that was removed.
func TestOpaque(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		text            string
		opaque, problem bool
	}{
		"git-crypt":        {"\x00GITCRYPT\x00\x01\x02kind", true, false},
		"an Ansible vault": {"$ANSIBLE_VAULT;1.1;AES256\n62363839\n", true, false},
		"empty":            {"", true, false},
		"a line break":     {"\n", true, false},
		"armored":          {"-----BEGIN AGE ENCRYPTED FILE-----\nYWdlLWVu\n-----END AGE ENCRYPTED FILE-----\n", true, false},
		"plain text":       {"these are no clusters\n", true, false},
		"cut off":          {"metadata: {x: [", true, false},
		"cut off JSON":     {`{"kind":"Cluster"`, false, true},
		"a list":           {"- " + strings.ReplaceAll(strings.TrimSpace(opaqueCluster[:strings.Index(opaqueCluster, "---")]), "\n", "\n  ") + "\n", true, false},
		"UTF-16":           {"\xff\xfek\x00:\x00 \x001\x00", true, false},
		// What stands in any repository.
		"a comment":           {"# nothing yet\n", false, false},
		"values":              {"replicas: 1\n", false, false},
		"quoted keys":         {"\"a b\": 1\n", false, false},
		"a list of patches":   {"- op: remove\n  path: /x\n", false, false},
		"JSON":                {"[1, 2]\n", false, false},
		"a chart":             {"kind: {{ .Values.kind }}\nmetadata: {{ x }}\n{{- if }}\n", false, false},
		"a Kubernetes object": {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", false, false},
		"SOPS":                {"password: ENC[AES256_GCM,data:x]\nsops: {mac: x}\n", false, false},
		"a directive":         {"%YAML 1.2\n---\na: 1\n", false, false},
	} {
		set, problems := template.Find(fstest.MapFS{"c.yaml": {Data: []byte(test.text)}, "d.yaml": {Data: []byte(opaqueCluster)}}, template.Scope{})

		if got := slices.Equal(set.Opaque, []string{"c.yaml"}); got != test.opaque {
			t.Errorf("%s: opaque %v", name, set.Opaque)
		}

		if got := len(problems) > 0; got != test.problem {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

// A file that a template refers to holds whatever the cluster needs, and a revision that follows finds the same.
func TestOpaqueReference(t *testing.T) {
	t.Parallel()

	files := fstest.MapFS{"p.yaml": {Data: []byte("\n")}, "a/c.yaml": {Data: []byte("\n")}, "d.yaml": {Data: []byte(
		strings.Replace(opaqueCluster, "---", "patches: [{file: p.yaml}]\n---", 1))}}

	set, _ := template.Find(files, template.Scope{})
	if want := []string{"a/c.yaml"}; !slices.Equal(set.Opaque, want) {
		t.Errorf("%v, want %v", set.Opaque, want)
	}

	if next, _ := set.Next(files, template.Scope{}); !slices.Equal(next.Opaque, set.Opaque) {
		t.Errorf("the next revision: %v", next.Opaque)
	}
}
