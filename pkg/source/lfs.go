package source

import (
	"bytes"
	"errors"
	"slices"
)

// maxPointer is the size over which a file is no Git LFS pointer, by LFS's own
// specification.
const maxPointer = 1024

// lfsVersions begin what stands behind "version " in the first line of a pointer: the
// address of the specification, and those from before LFS had its name, which LFS
// still reads.
var lfsVersions = [][]byte{
	[]byte("https://git-lfs.github.com/spec/"),
	[]byte("https://hawser.github.com/spec/"),
	[]byte("http://git-media.io/v/"),
}

var errPointer = errors.New("this is a Git LFS pointer, and LFS is not supported: commit the file itself " +
	"(see \"git lfs untrack\"), or exclude it")

// isPointer reports whether a file holds not its content but where Git LFS keeps it.
// Its text would be taken for the content otherwise: a template that is one would be
// no template any more, which looks as if the cluster had been deleted.
//
// The first line and the object's ID decide. LFS itself reads pointers whose other
// lines are not as the specification says.
func isPointer(data []byte) bool {
	version, ok := bytes.CutPrefix(data, []byte("version "))

	return ok && len(data) <= maxPointer && bytes.Contains(version, []byte("\noid ")) &&
		slices.ContainsFunc(lfsVersions, func(v []byte) bool { return bytes.HasPrefix(version, v) })
}
