package statefile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/statefile"
)

// A link whose target was deleted counted as a file that was never written: what was deleted lately was forgotten, and the
// next deletions had a whole budget.
func TestOpenOfALink(t *testing.T) {
	folder := t.TempDir()
	link, target := filepath.Join(folder, "deletions.json"), filepath.Join(folder, "target")

	if _, err := statefile.Open(link, os.O_RDONLY); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}

	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}

	if _, err := statefile.Open(link, os.O_RDONLY); !errors.Is(err, statefile.ErrNotRegular) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link that leads nowhere: %v", err)
	}

	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	file, err := statefile.Open(link, os.O_RDONLY)
	if err != nil {
		t.Fatalf("a link to a file: %v", err)
	}

	if err := file.Close(); err != nil {
		t.Error(err)
	}
}
