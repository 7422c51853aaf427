package diff

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
)

// Place is where a source reads its templates from. A source deletes only what carries exactly its present place: what
// it cannot see from there has not left Git.
type Place struct {
	// Repository identifies the repository, as host and path; "" if nothing does, as for a folder outside of Git.
	Repository string `json:"repository,omitempty"`
	// Ref is the branch, or [RefRelease]; "" for a checkout, which may be at any.
	Ref string `json:"ref,omitempty"`
	// Path is the folder of the templates in the repository; "" for all of it.
	Path string `json:"path,omitempty"`
	// Include and Exclude are the globs of the source, sorted.
	Include []string `json:"include,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
}

// RefRelease is the Ref of every tag, range of versions and commit: a release follows the one before it.
const RefRelease = "release"

// Known reports whether the place has an identity. Nothing is deleted unasked from one that has none: it could be
// another folder of the same name.
func (p Place) Known() bool { return p.Repository != "" }

// Equal reports whether two places are the same one. A checkout matches every ref.
func (p Place) Equal(other Place) bool {
	return p.Repository == other.Repository && (p.Ref == other.Ref || p.Ref == "" || other.Ref == "") && p.Path == other.Path &&
		slices.Equal(p.Include, other.Include) && slices.Equal(p.Exclude, other.Exclude)
}

// String writes a place for people: github.com/acme/fleet@main clusters/.
func (p Place) String() string {
	var s strings.Builder

	if s.WriteString(p.Repository); p.Repository == "" {
		s.WriteString("a folder outside of Git")
	}

	if p.Ref != "" {
		s.WriteString("@" + p.Ref)
	}

	if p.Path != "" {
		s.WriteString(" " + p.Path + "/")
	}

	if len(p.Include) > 0 {
		s.WriteString(" only " + strings.Join(p.Include, ", "))
	}

	if len(p.Exclude) > 0 {
		s.WriteString(" without " + strings.Join(p.Exclude, ", "))
	}

	return s.String()
}

// Origin is what [MarkOrigin] says of a cluster or fleet resource.
type Origin struct {
	Place

	// File is the file that describes it, from the root of the repository.
	File string `json:"file,omitempty"`
	// Commit is the one that was last written; "" if it came from no commit.
	Commit string `json:"commit,omitempty"`
}

// OriginOf returns where a live resource comes from. ok is false for one that an earlier release marked, and for one
// whose mark somebody broke: nobody can tell where those come from.
func OriginOf(r resource.Resource) (origin Origin, ok bool) {
	value, ok := r.Metadata().Annotations().Get(MarkOrigin)
	if !ok || json.Unmarshal([]byte(value), &origin) != nil {
		return Origin{}, false
	}

	return origin, true
}

func (o Origin) encode() string { return encodeMark(o) }

// stampOver returns the origin to write over that of a live resource. Another commit alone is no reason for a write, and
// neither is the ref if a checkout takes the place of a branch.
func (o Origin) stampOver(live resource.Resource) Origin {
	have, ok := OriginOf(live)
	if ok && have.Place.Equal(o.Place) && have.File == o.File && (o.Ref == "" || have.Ref == o.Ref) {
		return have
	}

	return o
}

// stranger reports whether a live resource that carries the name of our source belongs to another source of that name:
// one that reads another repository. What has no origin, or comes from no repository, is taken for ours.
func (o Origin) stranger(live resource.Resource) bool {
	have, ok := OriginOf(live)

	return ok && have.Known() && have.Repository != o.Repository
}
