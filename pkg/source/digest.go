package source

import (
	"errors"
	"io/fs"
	"strings"
)

// missing is the digest of what is not there.
const missing = "missing"

// Digest returns a text that stands for what is under a name: for a file its type and
// content, for a folder the names, types and contents of everything below it. If the
// texts of two revisions of one source are equal, so is what can be read there.
//
// Links on the way to the name are followed, and where they lead is part of the text.
// Links below a folder count as they are written, not by what they lead to: whoever
// follows one asks for it by its own name. A name that leads nowhere has a text, too.
// It is false when nothing can be said, because something on the way cannot be read.
//
// It is cheap: no file is read, and only the folders on the way are.
func (t *tree) Digest(name string) (string, bool) {
	if !fs.ValidPath(name) {
		return "", false
	}

	at, err := t.follow(name)

	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing, true
	case err != nil:
		return "", false
	}

	names := make([]string, len(at)-1)
	for i, n := range at[1:] {
		names[i] = n.name
	}

	return t.content.digest(at[len(at)-1]) + ":" + strings.Join(names, "/"), true
}
