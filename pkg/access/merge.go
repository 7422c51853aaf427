package access

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MergeOptions say how a config is put into a file.
type MergeOptions struct {
	// Context is the name that the context gets; "" keeps Omni's.
	Context string
	// KeepCurrent leaves the current context as it is.
	KeepCurrent bool
	// Identity, for a talosconfig, is who signs; "" keeps Omni's, which is the daemon's
	// service account.
	Identity string
}

// Merged says what was done.
type Merged struct {
	// Path is the file that holds the context.
	Path string
	// Context is its name there. Taken is the name that it should have had, if that
	// belongs to something else.
	Context, Taken string
	// Current says that it is the current context.
	Current bool
	// Changed says that a file was written.
	Changed bool
	// Shut is the file that others could read or write before, and its owner only can now,
	// because it holds a secret; "" if there is none.
	Shut string
}

// maxSuffix bounds how many names are tried.
const maxSuffix = 100

// suffixed returns name, name-1, name-2 ...
func suffixed(name string, n int) string {
	if n == 0 {
		return name
	}

	return fmt.Sprintf("%s-%d", name, n)
}

func (o MergeOptions) check() error {
	for _, value := range []string{o.Context, o.Identity} {
		if value != "" && !isName(value) {
			return fmt.Errorf("%.300q is no name: it has up to %d printable characters, and no blanks around it", value, maxName)
		}
	}

	return nil
}

// isName tells names from what would be another one once it is written, or shown.
func isName(text string) bool {
	return text != "" && len(text) <= maxName && utf8.ValidString(text) && strings.TrimSpace(text) == text &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// errLost is the error of a file that would not hold what was read from it.
var errLost = errors.New("a part of it would be lost; nothing was written")

// taken is the error of a name that somebody chose and that stands for something else.
func taken(path, context, command string) error {
	return fmt.Errorf("%s has a context %q that leads elsewhere: choose another name, or remove it with `%s %s`", path, context, command, context)
}

var lineNumber = regexp.MustCompile(`line \d+`)

// unreadable is the error of a file that cannot be parsed. The parser's own words may
// quote a token (G9).
func unreadable(path, what string, err error) error {
	where := ""
	if line := lineNumber.FindString(err.Error()); line != "" {
		where = " (" + line + ")"
	}

	return fmt.Errorf("%s cannot be read as a %s%s; it was left as it is", path, what, where)
}

// locked runs fn while kubectl, and others of us, keep from the files.
func locked(ctx context.Context, paths []string, fn func() (Merged, error)) (merged Merged, err error) {
	unlock, err := lock(ctx, paths)
	if err != nil {
		return Merged{}, err
	}

	defer func() { err = errors.Join(err, unlock()) }()

	return fn()
}
