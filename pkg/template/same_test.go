package template_test

import (
	"testing"
	"testing/fstest"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// Without digests nothing is said to be the same. (What is with them is tested in
// package source, against the file systems that have them.)
func TestSameInWithoutDigests(t *testing.T) {
	files := fstest.MapFS{}
	set, _ := template.Find(files, template.Scope{})

	if set.SameIn(files, template.Scope{}) || new(template.Set).SameIn(files, template.Scope{}) {
		t.Error("said to be the same")
	}
}
