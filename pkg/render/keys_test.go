package render_test

import (
	"strings"
	"testing"
	"testing/fstest"
)

// G9: a mapping as a key was told with all that was in it, secret or not, by whoever decoded it
// (`cannot use 'map[string]interface {}{"password":"…"}' as a map key`). The place is told, and
// not the content.
func TestG9_NoContentOfKeys(t *testing.T) {
	const canary = "CANARY-77"

	flow := map[string]string{
		"mapping":            "? {password: " + canary + "}",
		"mapping in mapping": "? {? {password: " + canary + "} : x}",
		"list":               "? [" + canary + "]",
		"empty mapping":      "? {}",
		"alias":              `a: &a {password: ` + canary + `}, ? *a`,
		"several lines":      `? "` + canary + `\n` + canary + `"`,
		"long":               "? " + canary + strings.Repeat("y", 3000),
		"tagged":             "? !!map {password: " + canary + "}",
		"with an anchor":     "? &b [" + canary + "]",
	}

	const clusterHead = "kind: Cluster\nname: c1\nkubernetes: {version: v1.34.0}\ntalos: {version: v1.11.0}\n"

	const clusterEnd = "---\nkind: ControlPlane\nmachines: [430d882a-51a8-48b3-ae00-90c5b0b5b0b0]\n"

	places := map[string]func(key string) fstest.MapFS{
		"a template": func(key string) fstest.MapFS {
			return fstest.MapFS{"a.yaml": {Data: []byte(clusterHead + "features: {" + key + ": x}\n" + clusterEnd)}}
		},
		"labels": func(key string) fstest.MapFS {
			return fstest.MapFS{"a.yaml": {Data: []byte(clusterHead + "labels: {" + key + ": x}\n" + clusterEnd)}}
		},
		"an inline patch": func(key string) fstest.MapFS {
			return fstest.MapFS{"a.yaml": {Data: []byte(clusterHead + "patches: [{name: p, inline: {machine: {" + key + ": x}}}]\n" + clusterEnd)}}
		},
		"a patch that is a text": func(key string) fstest.MapFS {
			return fstest.MapFS{"a.yaml": {Data: []byte(clusterHead + "patches:\n  - name: p\n    inline: |\n      machine: {" + key + ": x}\n" + clusterEnd)}}
		},
		"a patch file": func(key string) fstest.MapFS {
			return fstest.MapFS{
				"a.yaml": {Data: []byte(clusterHead + "patches: [{file: p.yml}]\n" + clusterEnd)},
				"p.yml":  {Data: []byte("machine: {" + key + ": x}\n")},
			}
		},
		"a patch file with a document of another kind": func(key string) fstest.MapFS {
			return fstest.MapFS{
				"a.yaml": {Data: []byte(clusterHead + "patches: [{file: p.yml}]\n" + clusterEnd)},
				"p.yml":  {Data: []byte("apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: {" + key + ": x}\n")},
			}
		},
		"a Kubernetes manifest": func(key string) fstest.MapFS {
			return fstest.MapFS{"a.yaml": {Data: []byte("kind: Cluster\nname: c1\ntalos: {version: v1.11.0}\n" +
				"kubernetes:\n  version: v1.34.0\n  manifests: [{name: m, mode: full, inline: [{apiVersion: v1, " + key + ": x}]}]\n" + clusterEnd)}}
		},
		"a manifest": func(key string) fstest.MapFS {
			return fstest.MapFS{"a.yaml": {Data: []byte("metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: a}\nspec: {" + key + ": x}\n")}}
		},
		"the metadata of a manifest": func(key string) fstest.MapFS {
			return fstest.MapFS{"a.yaml": {Data: []byte("metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: a, labels: {" + key + ": x}}\nspec: {}\n")}}
		},
	}

	for place, files := range places {
		for name, key := range flow {
			problems := validated(t, files(key))

			text := problems.Error()
			if strings.Contains(text, canary) || len(problems) == 0 {
				t.Errorf("%s in %s: %s", name, place, text)
			}

			for _, problem := range problems {
				if problem.Line == 0 {
					t.Errorf("%s in %s is nowhere: %s", name, place, problem)
				}
			}
		}
	}
}
