package access_test

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	gosync "sync"
	"testing"

	talos "github.com/siderolabs/talos/pkg/machinery/client/config"

	"github.com/omni-syncd/omni-syncd/pkg/access"
)

const otherTalos = `context: mine
contexts:
    mine:
        endpoints: [10.0.0.1]
        nodes: [10.0.0.2]
        ca: Y2E=
        crt: Y3J0
        key: ` + secret + `
`

func mergeTalos(t *testing.T, path string, data []byte, opts access.MergeOptions) access.Merged {
	t.Helper()

	merged, err := access.MergeTalosconfig(t.Context(), path, data, opts)
	must(t, err)

	return merged
}

// leads returns where the contexts of a talosconfig lead to, read as talosctl does.
func leads(t *testing.T, path string) (current string, found map[string]string) {
	t.Helper()

	config, err := talos.Open(path)
	must(t, err)

	found = map[string]string{}

	for name, c := range config.Contexts {
		identity := ""
		if c.Auth.SideroV1 != nil {
			identity = c.Auth.SideroV1.Identity
		}

		found[name] = fmt.Sprintf("%v%v%s %s%s", c.Endpoints, c.Nodes, c.Cluster, identity, c.Key)
	}

	return config.Context, found
}

func TestMergeTalosconfig(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), ".talos", "config")

	same(t, "merged", access.Merged{Path: path, Context: "lab-prod", Current: true, Changed: true}, mergeTalos(t, path, talosconfig(here, "prod"), access.MergeOptions{}))
	same(t, "files", map[string]fs.FileMode{"config": 0o600}, names(t, filepath.Dir(path)))

	before := read(t, path)
	same(t, "merged again", access.Merged{Path: path, Context: "lab-prod", Current: true}, mergeTalos(t, path, talosconfig(here, "prod"), access.MergeOptions{}))
	same(t, "second merge", before, read(t, path))

	current, found := leads(t, path)
	same(t, "current", "lab-prod", current)
	same(t, "contexts", map[string]string{"lab-prod": "[" + here + "][]prod robot@omni"}, found)
}

func TestMergeTalosconfig_Rules(t *testing.T) {
	t.Parallel()

	ours := fmt.Sprintf("context: mine\ncontexts: {lab-prod: {endpoints: [%s], nodes: [m1], cluster: prod, auth: {siderov1: {identity: old}}}}\n", here)

	for name, test := range map[string]struct {
		file    string
		opts    access.MergeOptions
		want    access.Merged
		current string
		found   map[string]string
		words   []string
	}{
		"others stay": {
			otherTalos, access.MergeOptions{}, access.Merged{Context: "lab-prod", Current: true, Changed: true}, "lab-prod",
			map[string]string{"mine": "[10.0.0.1][10.0.0.2] " + secret, "lab-prod": "[" + here + "][]prod robot@omni"}, nil,
		},
		"a name, an identity, and the current one stays": {
			otherTalos, access.MergeOptions{Context: "prod", Identity: "jane@example.com", KeepCurrent: true}, access.Merged{Context: "prod", Changed: true}, "mine",
			map[string]string{"mine": "[10.0.0.1][10.0.0.2] " + secret, "prod": "[" + here + "][]prod jane@example.com"}, nil,
		},
		"ours is replaced, its nodes stay": {
			ours, access.MergeOptions{}, access.Merged{Context: "lab-prod", Current: true, Changed: true}, "lab-prod",
			map[string]string{"lab-prod": "[" + here + "][m1]prod robot@omni"}, nil,
		},
		"another Omni": {
			"contexts: {lab-prod: {endpoints: [" + elsewhere + "], cluster: prod}}", access.MergeOptions{},
			access.Merged{Context: "lab-prod-1", Taken: "lab-prod", Current: true, Changed: true}, "lab-prod-1",
			map[string]string{"lab-prod": "[" + elsewhere + "][]prod ", "lab-prod-1": "[" + here + "][]prod robot@omni"}, nil,
		},
		"a key of its own": {
			"contexts: {lab-prod: {endpoints: [" + here + "], cluster: prod, key: k}}", access.MergeOptions{},
			access.Merged{Context: "lab-prod-1", Taken: "lab-prod", Current: true, Changed: true}, "lab-prod-1",
			map[string]string{"lab-prod": "[" + here + "][]prod k", "lab-prod-1": "[" + here + "][]prod robot@omni"}, nil,
		},
		"a chosen name of something else": {otherTalos, access.MergeOptions{Context: "mine"}, access.Merged{}, "", nil, []string{"mine", "leads elsewhere", "talosctl config remove"}},
		"a broken file":                   {"contexts: {a: [" + secret, access.MergeOptions{}, access.Merged{}, "", nil, []string{"config", "left as it is"}},
		"a file of something else":        {"contexts: {a: " + secret + "}", access.MergeOptions{}, access.Merged{}, "", nil, []string{"config", "left as it is"}},
		"an empty context":                {"contexts: {a: }", access.MergeOptions{}, access.Merged{}, "", nil, []string{"config", "empty"}},
		"what would be lost":              {"contexts: {a: {endpoints: [x], key: \"\\n a\"}}", access.MergeOptions{}, access.Merged{}, "", nil, []string{"config", "would be lost"}},
		"an odd identity":                 {otherTalos, access.MergeOptions{Identity: "a\x00"}, access.Merged{}, "", nil, []string{"printable"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			path := write(t, filepath.Join(t.TempDir(), "config"), test.file)
			merged, err := access.MergeTalosconfig(t.Context(), path, talosconfig(here, "prod"), test.opts)

			if test.words != nil {
				fails(t, err, test.words...)
				same(t, "file", test.file, read(t, path))
				same(t, "files", 1, len(names(t, filepath.Dir(path))))

				return
			}

			must(t, err)

			test.want.Path = path
			same(t, "merged", test.want, merged)

			current, found := leads(t, path)
			same(t, "current", test.current, current)
			same(t, "contexts", test.found, found)

			before := read(t, path)
			mergeTalos(t, path, talosconfig(here, "prod"), test.opts)
			same(t, "second merge", before, read(t, path))
		})
	}

	for _, data := range []string{"", "contexts: {}", "context: a\ncontexts: {a: {}}", "context: a\ncontexts: {a: {endpoints: [x]}, b: {endpoints: [x]}}", "a: ["} {
		_, err := access.MergeTalosconfig(t.Context(), filepath.Join(t.TempDir(), "config"), []byte(data), access.MergeOptions{})
		fails(t, err, "the answer")
	}
}

func TestMergeTalosconfig_Concurrent(t *testing.T) {
	t.Parallel()

	path := write(t, filepath.Join(t.TempDir(), "config"), otherTalos)

	var group gosync.WaitGroup
	for i := range 12 {
		group.Go(func() {
			if _, err := access.MergeTalosconfig(context.Background(), path, talosconfig(here, fmt.Sprint("c", i)), access.MergeOptions{}); err != nil {
				t.Error(err)
			}
		})
	}

	group.Wait()

	_, found := leads(t, path)
	same(t, "contexts", 13, len(found))
}

func TestEditTalosconfig(t *testing.T) {
	t.Parallel()

	data, err := access.EditTalosconfig(talosconfig(here, "prod"), access.MergeOptions{})
	must(t, err)
	same(t, "untouched", string(talosconfig(here, "prod")), string(data))

	data, err = access.EditTalosconfig(talosconfig(here, "prod"), access.MergeOptions{Context: "prod", Identity: "jane@example.com"})
	must(t, err)

	current, found := leads(t, write(t, filepath.Join(t.TempDir(), "config"), string(data)))
	same(t, "current", "prod", current)
	same(t, "contexts", map[string]string{"prod": "[" + here + "][]prod jane@example.com"}, found)
}

func FuzzMergeTalosconfig(f *testing.F) {
	f.Add(string(talosconfig(here, "prod")), otherTalos, "")
	f.Add(string(talosconfig(here, "prod")), string(talosconfig(elsewhere, "prod")), "prod")
	f.Add("context: a\ncontexts: {a: {endpoints: [x], target: y}}", "contexts: {a: {target: y}, b: null}", "")

	f.Fuzz(func(t *testing.T, data, file, name string) {
		path := write(t, filepath.Join(t.TempDir(), "config"), file)
		opts := access.MergeOptions{Context: name}

		merged, err := access.MergeTalosconfig(t.Context(), path, []byte(data), opts)
		if err != nil {
			if read(t, path) != file {
				t.Fatal("an error, and the file is another one")
			}

			return
		}

		config, err := talos.Open(path)
		must(t, err)

		if config.Contexts[merged.Context] == nil || config.Context != merged.Context {
			t.Fatalf("%v is not in the file", merged)
		}

		before := read(t, path)
		again, err := access.MergeTalosconfig(t.Context(), path, []byte(data), opts)
		must(t, err)

		if again.Changed || read(t, path) != before {
			t.Fatalf("the second merge changes something:\n%s\n%s", before, read(t, path))
		}
	})
}
