package template

import (
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Scope says which part of a revision belongs to a source.
type Scope struct {
	// Root is the folder to look in, slash-separated and relative to the root of the file system. Empty or "." is all
	// of it. A template in it may refer to files outside of it, but not outside of the file system.
	Root string

	// Include holds globs (with ** for any number of folders), relative to Root. A file counts if it matches one of
	// them. Empty means every file.
	Include []string

	// Exclude holds globs as Include does. A file or folder that matches one of them is not looked at.
	Exclude []string
}

// Literal returns a glob that matches only the given name.
func Literal(name string) string {
	var glob strings.Builder

	for _, r := range name {
		if strings.ContainsRune(`*?[]{}\`, r) {
			glob.WriteByte('\\')
		}

		glob.WriteRune(r)
	}

	return glob.String()
}

func (s Scope) equal(other Scope) bool {
	return s.Root == other.Root && slices.Equal(s.Include, other.Include) && slices.Equal(s.Exclude, other.Exclude)
}

// mayBeFile reports whether a file of that name is read. What is excluded does not come this far.
func (f *finder) mayBeFile(name string) bool {
	ext := path.Ext(name)

	return (ext == ".yaml" || ext == ".yml") && (len(f.scope.Include) == 0 || f.matches(f.scope.Include, name))
}

// mayBeFolder reports whether a folder of that name is looked into: it is not hidden, and may hold a file that is
// included.
func (f *finder) mayBeFolder(name string) bool {
	if strings.HasPrefix(path.Base(name), ".") {
		return false
	}

	return len(f.scope.Include) == 0 || slices.ContainsFunc(f.scope.Include, func(glob string) bool { return reaches(glob, f.inScope(name)) })
}

// reaches reports whether a glob may match something below a folder. It is true when in doubt: a slash inside of braces
// is not understood.
func reaches(glob, folder string) bool {
	parts := strings.Split(path.Clean(glob), "/")

	for i, name := range strings.Split(folder, "/") {
		if strings.Contains(parts[i], "**") {
			return true
		}

		if matches, err := doublestar.Match(parts[i], name); err != nil {
			return true
		} else if !matches || i == len(parts)-1 {
			return false
		}
	}

	return true
}

func (f *finder) excluded(name string) bool {
	return f.matches(f.scope.Exclude, name)
}

func (f *finder) matches(globs []string, name string) bool {
	name = f.inScope(name)

	return slices.ContainsFunc(globs, func(glob string) bool { return doublestar.MatchUnvalidated(path.Clean(glob), name) })
}

// inScope returns a name relative to the root of the scope, as globs are.
func (f *finder) inScope(name string) string {
	if f.root == "." {
		return name
	}

	return strings.TrimPrefix(name, f.root+"/")
}
