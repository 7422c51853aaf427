package source

import (
	"errors"
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/go-git/go-git/v5/plumbing"
)

// Ref names what to follow in a repository. At most one field is set; with none it is
// the repository's default branch, also when that changes.
type Ref struct {
	// Branch is a branch, without refs/heads/.
	Branch string
	// Tag is a tag, without refs/tags/. It is followed when it is moved.
	Tag string
	// SemVer is a range of versions, such as ">=1.2.0 <2.0.0" or "1.2.x". The tag with
	// the highest version in it is followed. Tags read 1.2.3 or v1.2.3; others are left
	// out. A pre-release counts only if the range names one (">=1.2.0-0").
	SemVer string
	// Commit is the full ID of a commit, 40 hexadecimal digits. Once fetched the server
	// is not asked again.
	Commit string
	// Name is the full name of any ref that the server shows, such as
	// refs/pull/7/merge.
	Name string
}

// String returns what Ref follows, for people.
func (r Ref) String() string {
	switch {
	case r.Branch != "":
		return "branch " + clean(r.Branch)
	case r.Tag != "":
		return "tag " + clean(r.Tag)
	case r.SemVer != "":
		return "versions " + clean(r.SemVer)
	case r.Commit != "":
		return "commit " + clean(r.Commit)
	case r.Name != "":
		return "ref " + clean(r.Name)
	default:
		return "the default branch"
	}
}

// Follows tells whether a push to the ref with that full name (refs/heads/main) may
// change what r is at. For the default branch every branch may: which one it is, is known
// from Revision.Ref after the first fetch.
func (r Ref) Follows(name string) bool {
	switch {
	case r.Branch != "":
		return name == branchPrefix+r.Branch
	case r.Tag != "":
		return name == tagPrefix+r.Tag
	case r.SemVer != "":
		within, err := semver.NewConstraint(r.SemVer)
		tag, ok := strings.CutPrefix(name, tagPrefix)
		version := versionOf(tag)

		return err == nil && ok && version != nil && within.Check(version)
	case r.Commit != "":
		return false
	case r.Name != "":
		return name == r.Name
	default:
		return strings.HasPrefix(name, branchPrefix)
	}
}

const (
	branchPrefix = "refs/heads/"
	tagPrefix    = "refs/tags/"
)

// check tells what is wrong with r.
func (r Ref) check() error {
	set := 0

	for _, field := range []string{r.Branch, r.Tag, r.SemVer, r.Commit, r.Name} {
		if field != "" {
			set++
		}
	}

	if set > 1 {
		return errors.New("more than one of branch, tag, semver, commit and name is given: keep one")
	}

	switch {
	case r.Branch != "" && plumbing.NewBranchReferenceName(r.Branch).Validate() != nil:
		return fmt.Errorf("%q is no valid branch name", r.Branch)
	case r.Tag != "" && plumbing.NewTagReferenceName(r.Tag).Validate() != nil:
		return fmt.Errorf("%q is no valid tag name", r.Tag)
	case r.Commit != "" && !isCommitID(r.Commit):
		return fmt.Errorf("%q is no commit: give all 40 digits of its ID", r.Commit)
	case r.Name != "" && (!strings.HasPrefix(r.Name, "refs/") || plumbing.ReferenceName(r.Name).Validate() != nil):
		return fmt.Errorf("%q is no full name of a ref: it reads like refs/heads/main or refs/pull/7/merge", r.Name)
	}

	if r.SemVer != "" {
		if _, err := semver.NewConstraint(r.SemVer); err != nil {
			return fmt.Errorf("%q is no range of versions: it reads like 1.2.x or >=1.2.0 <2.0.0", clean(r.SemVer))
		}
	}

	return nil
}

func isCommitID(id string) bool {
	return len(id) == 40 && strings.Trim(id, "0123456789abcdef") == ""
}

// versionOf reads a tag as a version, with or without a v before it; nil if it is none.
func versionOf(tag string) *semver.Version {
	version, err := semver.StrictNewVersion(strings.TrimPrefix(tag, "v"))
	if err != nil {
		return nil
	}

	return version
}

// picked is the ref that was chosen from what a repository has.
type picked struct {
	name   string                 // as it stands in Revision.ID; "" for a commit
	ref    plumbing.ReferenceName // full; "" for a commit, HEAD if that is on no branch
	object plumbing.Hash          // a commit, or an annotated tag
}

func (p picked) id(commit plumbing.Hash) string {
	if p.name == "" {
		return "sha1:" + commit.String()
	}

	return p.name + "@sha1:" + commit.String()
}

// pick finds what ref names. A commit is not picked but fetched.
func (v *view) pick(ref Ref) (picked, error) {
	switch {
	case ref.SemVer != "":
		return v.highest(ref.SemVer)
	case ref.Tag != "":
		return v.named(plumbing.NewTagReferenceName(ref.Tag), ref.Tag, "tag")
	case ref.Name != "":
		return v.named(plumbing.ReferenceName(ref.Name), ref.Name, "ref")
	case ref.Branch != "":
		return v.named(plumbing.NewBranchReferenceName(ref.Branch), ref.Branch, "branch")
	}

	name := v.head
	if name == "" {
		name = plumbing.HEAD
	}

	if name != plumbing.HEAD && name.Validate() != nil {
		return picked{}, fmt.Errorf("the default branch has the invalid name %q", clean(string(name)))
	}

	if object, ok := v.refs[name]; ok {
		return picked{name: name.Short(), ref: name, object: object}, nil
	}

	list := v.list(branchPrefix)
	if list == "" {
		return picked{}, errEmpty
	}

	return picked{}, fmt.Errorf("the default branch %q does not exist: name one of the branches %s", clean(name.Short()), list)
}

func (v *view) named(ref plumbing.ReferenceName, name, kind string) (picked, error) {
	if object, ok := v.refs[ref]; ok {
		return picked{name: name, ref: ref, object: object}, nil
	}

	prefix := branchPrefix

	switch {
	case len(v.refs) == 0:
		return picked{}, errEmpty
	case kind == "ref":
		return picked{}, fmt.Errorf("the server shows no ref %q: check the name; servers hide some refs", name)
	case kind == "tag":
		prefix = tagPrefix
	}

	list := v.list(prefix)
	if list == "" {
		return picked{}, fmt.Errorf("there is no %s %q, nor any other %s: push one", kind, name, kind)
	}

	return picked{}, fmt.Errorf("there is no %s %q: name one of %s", kind, name, list)
}

// highest finds the tag with the highest version in a range. Of tags with the same
// version (v1.0.0 and 1.0.0, or other build metadata) it is the one whose name sorts last,
// so that the choice is the same every time.
func (v *view) highest(within string) (picked, error) {
	constraint, err := semver.NewConstraint(within)
	if err != nil {
		return picked{}, fmt.Errorf("%q is no range of versions", clean(within))
	}

	var (
		best  picked
		top   *semver.Version
		total int
	)

	for ref, object := range v.refs {
		tag, ok := strings.CutPrefix(string(ref), tagPrefix)
		if !ok || ref.Validate() != nil {
			continue
		}

		version := versionOf(tag)
		if version == nil {
			continue
		}

		if total++; !constraint.Check(version) {
			continue
		}

		if top == nil || version.GreaterThan(top) || version.Equal(top) && tag > best.name {
			best, top = picked{name: tag, ref: ref, object: object}, version
		}
	}

	switch {
	case len(v.refs) == 0:
		return picked{}, errEmpty
	case top == nil && total == 0:
		return picked{}, fmt.Errorf("no tag is a version, so none is in %s: push a tag like v1.0.0", clean(within))
	case top == nil:
		return picked{}, fmt.Errorf("none of %d versions is in %s: push a tag, or widen the range (a pre-release counts only if the range names one)", total, clean(within))
	default:
		return best, nil
	}
}
