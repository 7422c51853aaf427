package render

import (
	"os"
	"strings"
	"testing"
)

// Upstream resolves `file:` on the disk, from the folder the process runs in. No template may get there.
func TestTemplatesCannotReadTheDisk(t *testing.T) {
	t.Chdir(t.TempDir())

	if err := os.WriteFile("planted.yaml", []byte("machine: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	const text = `kind: Cluster
name: c
kubernetes:
  version: v1.34.0
  manifests: [{name: m, mode: full, file: planted.yaml}]
talos:
  version: v1.11.0
patches:
  - file: planted.yaml
---
kind: ControlPlane
machines: [430d882a-51a8-48b3-ae00-90c5b0b5b0b0]
`

	tmpl, err := load([]byte(text))
	if err != nil {
		t.Fatal(err)
	}

	if err := tmpl.Validate(); err == nil || strings.Count(err.Error(), os.ErrClosed.Error()) != 2 {
		t.Errorf("the patch and the manifest were not both refused: %v", err)
	}

	if resources, err := tmpl.Translate(); err == nil {
		t.Errorf("a file of the disk was rendered: %v", resources)
	}
}
