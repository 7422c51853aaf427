package template

import (
	"io/fs"
	"slices"
)

// kept is what the next revision can do with, if the file system says that it is still so.
type kept struct {
	root       *part                    // nil: the root could not be read
	references map[string]keptReference // files that templates refer to, read once, by clean path
	apart      bool                     // no two files name one cluster, machine or resource
}

// part is what came of a file or a folder of the scope, before it was held against others. It is immutable once it is
// in a folder.
type part struct {
	name    string // in its folder
	digest  string // "": nobody can tell when it is the same
	entries int    // files and folders below it
	alone   bool   // it is the same wherever what is below it is, and what it refers to

	templates  []*Template
	manifests  []*Manifest
	problems   Problems // of templates and manifests
	suspects   Problems // files that look like a broken template, unless a template refers to them
	references []string // clean paths of what its templates refer to, each once

	parts []*part // of a folder, sorted by name
}

// below returns what came of what is in a folder.
func (p *part) below() []*part {
	if p == nil {
		return nil
	}

	return p.parts
}

// take adds what came of something in a folder to the folder.
func (p *part) take(below *part) {
	p.templates = append(p.templates, below.templates...)
	p.manifests = append(p.manifests, below.manifests...)
	p.problems = append(p.problems, below.problems...)
	p.suspects = append(p.suspects, below.suspects...)
	p.references = append(p.references, below.references...)
	p.alone = p.alone && below.alone
	p.parts = append(p.parts, below)
}

type keptReference struct {
	reference

	digest string // "": it is not known
	stays  bool   // it was the same in the set before
}

// change is a file that was read, because what came of it before, if anything, may no longer be so.
type change struct{ before, now *part }

// reusable returns what was kept, unless something could not be read: nobody knows what came of that.
func (s *Set) reusable(scope Scope) kept {
	if s == nil || s.seen == nil || s.seen.fsys == nil || !s.seen.scope.equal(scope) {
		return kept{}
	}

	return s.kept
}

// readFile returns what comes of a YAML file.
func (f *finder) readFile(name string, listed fs.DirEntry, before *part) *part {
	digest := f.seen.entry(name, listed)
	if before.is(digest) && f.sameReferences(before) {
		return before
	}

	f.file = &part{name: listed.Name(), digest: digest, alone: true}
	f.parseFile(name)

	for _, t := range f.file.templates {
		f.file.problems = append(f.file.problems, t.Problems...)
	}

	for _, m := range f.file.manifests {
		f.file.problems = append(f.file.problems, m.Problems...)
	}

	f.file.references = distinct(f.file.references)
	f.fresh = append(f.fresh, change{before, f.file})

	return f.file
}

// readFolder returns what comes of a folder.
func (f *finder) readFolder(name string, listed fs.DirEntry, parents []fs.FileInfo, before *part) *part {
	digest := f.seen.entry(name, listed)
	if before.is(digest) && before.alone && f.entries+before.entries <= MaxFiles && f.sameReferences(before) {
		f.entries += before.entries

		return before
	}

	p := f.walk(name, parents, before)
	p.name, p.digest = listed.Name(), digest

	return p
}

// is reports whether a part is what has a digest.
func (p *part) is(digest string) bool { return p != nil && digest != "" && p.digest == digest }

// sameReferences reports whether templates refer to the same as when they were read. It reads what they refer to if
// nobody has.
func (f *finder) sameReferences(p *part) bool {
	return !slices.ContainsFunc(p.references, func(name string) bool { return !f.referenced(name).stays })
}

// referenced returns a file that a template refers to, from before if it is the same.
func (f *finder) referenced(clean string) keptReference {
	if known, read := f.set.kept.references[clean]; read {
		return known
	}

	f.seen.reference(f.root, clean)

	digest, told := f.seen.digest(clean)

	before, ok := f.before.references[clean]

	ref := before
	if !ok || !told || before.digest != digest {
		ref = keptReference{reference: f.readReference(clean)}
		if told {
			ref.digest = digest
		}
	}

	ref.stays = ok && ref.fault == before.fault && ref.content == before.content
	f.set.kept.references[clean] = ref

	return ref
}

// stillApart reports whether no two files name one cluster, machine or resource, without looking at all of them: none
// did before, and none names now what it did not name before.
func (f *finder) stillApart() bool {
	return f.before.apart && !slices.ContainsFunc(f.fresh, func(c change) bool { return !c.now.namesOnly(c.before) })
}

// namesOnly reports whether a file names only what it named before, and each resource once.
func (p *part) namesOnly(before *part) bool {
	type name struct{ kind, namespace, id string }

	named := map[name]bool{}

	if before != nil {
		for _, t := range before.templates {
			named[name{kind: kindCluster, id: t.Name}] = true

			for _, m := range t.machines {
				named[name{kind: kindMachine, id: m.id}] = true
			}
		}

		for _, m := range before.manifests {
			named[name{m.Type, m.Namespace, m.ID}] = true
		}
	}

	for _, t := range p.templates {
		if t.Name != "" && !named[name{kind: kindCluster, id: t.Name}] {
			return false
		}

		for _, m := range t.machines {
			if !named[name{kind: kindMachine, id: m.id}] {
				return false
			}
		}
	}

	for _, m := range p.manifests {
		key := name{m.Type, m.Namespace, m.ID}
		if !named[key] {
			return false
		}

		delete(named, key)
	}

	return true
}

// distinct returns each text once.
func distinct(texts []string) []string {
	slices.Sort(texts)

	return slices.Compact(texts)
}
