package template

import (
	"io/fs"
	"slices"
)

// kept is what the next revision can do with, if the file system says that it is still so.
type kept struct {
	root  *part // nil: the root could not be read
	apart bool  // no two files name one cluster, machine or resource
}

// part is what came of a file or a folder of the scope, before it was held against others. It is immutable once it is
// in a folder.
type part struct {
	name    string // in its folder
	digest  string // "": nobody can tell when it is the same, as with what is reached through a link
	entries int    // files and folders below it
	alone   bool   // with the same digest, and the same files that templates refer to, it is the same

	templates  []*Template
	manifests  []*Manifest
	odd        bool             // there are problems or suspects, or files that nobody can read
	suspects   Problems         // of a file that looks like a broken template, unless a template refers to it
	opaque     string           // of a file that nobody can read: its path
	references []*keptReference // of a file: what its templates refer to, each once

	parts []*part // of a folder, sorted by name
}

// below returns what came of what is in a folder.
func (p *part) below() []*part {
	if p == nil {
		return nil
	}

	return p.parts
}

// take adds what came of something in a folder to the folder. Only pointers: folders can be deep, and what one hostile
// file holds must not be held once for each of them.
func (p *part) take(below *part) {
	p.templates = append(p.templates, below.templates...)
	p.manifests = append(p.manifests, below.manifests...)
	p.odd = p.odd || below.odd
	p.alone = p.alone && below.alone
	p.parts = append(p.parts, below)
}

// files calls back with every file below a part, and itself if it is one. Parts that are not wanted are left out.
func (p *part) files(want func(*part) bool, fn func(*part)) {
	switch {
	case !want(p):
	case p.parts == nil:
		fn(p)
	default:
		for _, below := range p.parts {
			below.files(want, fn)
		}
	}
}

// change is a file that was read, because what came of it before, if anything, may no longer be so.
type change struct{ before, now *part }

// reusable returns what was kept, unless something could not be read: nobody knows what came of that.
func (s *Set) reusable(scope Scope) kept {
	if s == nil || s.seen == nil || !s.seen.told || !s.seen.scope.equal(scope) {
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
	f.was, f.refers = map[string]*keptReference{}, map[string]bool{}

	if before != nil {
		for _, ref := range before.references {
			f.was[ref.name] = ref
		}
	}

	f.parseFile(name)

	f.file.odd = len(f.file.suspects) > 0 || f.file.opaque != "" ||
		slices.ContainsFunc(f.file.templates, func(t *Template) bool { return len(t.Problems) > 0 }) ||
		slices.ContainsFunc(f.file.manifests, func(m *Manifest) bool { return len(m.Problems) > 0 })
	f.fresh = append(f.fresh, change{before, f.file})

	return f.file
}

// readFolder returns what comes of a folder. What is reached through a link is read each time: where the walk has to turn
// back depends on the way there.
func (f *finder) readFolder(name string, listed fs.DirEntry, parents []fs.FileInfo, before *part) *part {
	if listed.Type()&fs.ModeSymlink != 0 {
		f.links++
		defer func() { f.links-- }()
	}

	digest := ""
	if f.links == 0 {
		digest = f.seen.entry(name, listed)
	}

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
