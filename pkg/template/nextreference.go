package template

import (
	"path"
	"slices"
	"strings"
)

// keptReference is a file that templates refer to, as it was when it was read. It is immutable.
type keptReference struct {
	reference

	name   string // its clean path
	digest string // "": it is not known
	// plain says that there is no symbolic link on the way to it. Then way is the folders that it is in, from the root of
	// the file system down, at most maxWay. Where one of them is the same, so is the file, and it need not be asked for: to
	// list every folder that a file is in, for a revision that touches none of them, would be most of the work.
	plain bool
	way   []folderDigest
}

type folderDigest struct{ name, digest string }

// maxWay bounds what is kept of a deep folder: the digest of each has all the names above it.
const maxWay = 8

// sameWay reports whether a folder on the way to the file is the same.
func (r *keptReference) sameWay(now *folders) bool {
	return r.plain && slices.ContainsFunc(r.way, func(folder folderDigest) bool { return now.digest(folder.name) == folder.digest })
}

// folders are the digests of folders in one revision, each asked for once.
type folders struct {
	fsys  Digester // nil: nothing is known
	known map[string]string
}

// digest returns the digest of a folder; "" if it is not known.
func (f *folders) digest(name string) string {
	digest, known := f.known[name]
	if !known && f.fsys != nil {
		digest, _ = f.fsys.Digest(name)
		f.known[name] = digest
	}

	return digest
}

// sameReferences reports whether templates refer to the same as when they were read. It reads what they refer to if
// nobody has.
func (f *finder) sameReferences(p *part) bool {
	for _, below := range p.parts {
		if !f.sameReferences(below) {
			return false
		}
	}

	return !slices.ContainsFunc(p.references, func(before *keptReference) bool {
		now := f.referenced(before.name, before)

		return now != before && (now.fault != before.fault || now.content != before.content)
	})
}

// refer returns a file that the template refers to that is being read.
func (f *finder) refer(clean string) *keptReference {
	ref := f.referenced(clean, f.was[clean])

	if !f.refers[clean] {
		f.refers[clean] = true
		f.file.references = append(f.file.references, ref)
	}

	return ref
}

// referenced returns a file that a template refers to: what it was before, which may be nil, if it is the same.
func (f *finder) referenced(clean string, before *keptReference) *keptReference {
	if known := f.references[clean]; known != nil {
		return known
	}

	now := before

	if before == nil || !before.sameWay(&f.folders) {
		digest, told := f.seen.digest(clean)
		if before == nil || !told || before.digest != digest {
			now = f.newReference(clean, digest, told)
		}
	}

	f.seen.reference(f.root, now)
	f.references[clean] = now

	return now
}

func (f *finder) newReference(clean, digest string, told bool) *keptReference {
	ref := &keptReference{name: clean, reference: f.readReference(clean)}
	if !told {
		return ref
	}

	// Of one that cannot be used it is not known why: it may be a link that leads nowhere.
	ref.digest, ref.plain = digest, ref.fault == ""

	for at := clean; at != "." && ref.plain; at = path.Dir(at) {
		ref.plain = !f.seen.isLink(at)

		// The root of the file system is another one in every revision.
		if folder := path.Dir(at); folder != "." && f.folders.digest(folder) != "" {
			ref.way = append(ref.way, folderDigest{folder, f.folders.digest(folder)})
		}
	}

	slices.Reverse(ref.way)
	ref.way = slices.Clone(ref.way[:min(len(ref.way), maxWay)])

	return ref
}

// reference notes a file that a template refers to, unless the digest of the root has it.
func (s *seen) reference(root string, ref *keptReference) {
	switch {
	case ref.plain && (root == "." || strings.HasPrefix(ref.name, root+"/")):
	case ref.plain:
		s.references = append(s.references, ref)
	default:
		at := ref.name
		for at != root && at != "." && !s.isLink(at) {
			at = path.Dir(at)
		}

		if at != root {
			s.name(ref.name)
		}
	}
}
