package sync

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// What a resource came from may be there still in some form that describes nothing. Then nobody can tell that it left (G2).

// leftBehind returns the file that a resource came from if the revision still has it and nothing in it is described any
// more: emptied, half saved, in another encoding, a misspelt kind. That is an accident until somebody removes the file. A
// file that describes other things by now was changed on purpose, and one that this source does not read any more is none
// of its business.
func (e *Engine) leftBehind(t *target, r resource.Resource) string {
	origin, ok := diff.OriginOf(r)
	elsewhere := origin.Known() && t.from.place.Known() && !origin.Place.Equal(t.from.place)

	if !ok || origin.File == "" || elsewhere || t.from.describes(origin.File) {
		return ""
	}

	if _, err := fs.Stat(t.from.files, t.from.inFiles(origin.File)); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return ""
	}

	return origin.File
}

// mayHaveBecome says what the file of a resource may have become; "" if it was removed. A file that is renamed and cut off,
// or encrypted, in one commit looks like one that was removed, and another that is about something else.
func (e *Engine) mayHaveBecome(t *target, r resource.Resource) string {
	origin, ok := diff.OriginOf(r)
	if !ok || origin.File == "" || len(t.from.opaque) == 0 || t.from.describes(origin.File) {
		return ""
	}

	return fmt.Sprintf("%s is gone, and %s%s, which is no YAML that anybody can read, may be what became of it: correct that, remove it, or `exclude` it",
		origin.File, t.from.fileOf(t.from.opaque[0]), andMore(len(t.from.opaque)))
}

// folderBecame says that a folder on the way to the file of a resource is a file now; "" if none is. Where links cannot be
// made, as on Windows, Git writes a text file in place of a link, and the next commit of everything has that.
func (e *Engine) folderBecame(t *target, r resource.Resource) string {
	origin, ok := diff.OriginOf(r)
	if !ok || origin.File == "" || t.from.describes(origin.File) {
		return ""
	}

	for folder := path.Dir(t.from.inFiles(origin.File)); folder != "." && folder != "/"; folder = path.Dir(folder) {
		if info, err := fs.Stat(t.from.files, folder); err == nil && !info.IsDir() {
			return fmt.Sprintf("%s is a file and no folder any more, so nobody can tell what became of %s: restore it, or remove it", t.from.fileOf(folder), origin.File)
		}
	}

	return ""
}

// inFiles returns the path inside of the revision's files of a file in the repository.
func (d *desired) inFiles(file string) string {
	return strings.TrimPrefix(strings.TrimPrefix(file, d.folder), "/")
}
