package mask

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// Documents that others wrote, by the hundred: each can be read, and but for the secrets stays as it is.
func TestRealDocuments(t *testing.T) {
	read := 0

	for _, module := range []string{"github.com/siderolabs/talos/pkg/machinery", "github.com/siderolabs/omni/client"} {
		dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
		if err != nil {
			t.Fatal(err)
		}

		err = filepath.WalkDir(strings.TrimSpace(string(dir)), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
				return err
			}

			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}

			m := &masker{markers: newMarkers(), side: sideNew}
			masked := m.payload(string(data), nil)

			if restore(m.markers, masked) != string(data) {
				t.Errorf("%s is not as it was", path)
			}

			for _, s := range m.secrets {
				if s.unreadable && yaml.Unmarshal(data, new(yaml.Node)) == nil {
					t.Errorf("%s can be read, and is masked as if it could not", path)
				}
			}

			read++

			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	if read < 100 {
		t.Errorf("only %d documents found", read)
	}
}

// BenchmarkPayload is what masking costs for each changed resource of a plan.
func BenchmarkPayload(b *testing.B) {
	text := strings.Repeat("machine:\n  token: abc # a comment\n  nodeLabels: {a: b}\n  install:\n    extraKernelArgs: [console=tty0, net.ifnames=0]\n---\n", 80)

	b.SetBytes(int64(len(text)))

	for b.Loop() {
		(&masker{markers: newMarkers(), side: sideNew}).payload(text, nil)
	}
}
