package template

import (
	"io/fs"
	"slices"
)

// kept is what the next revision can do with, if the file system says that it is still so.
type kept struct {
	files      map[string]*keptFile     // by path; every YAML file of the scope
	references map[string]keptReference // files that templates refer to, read once, by clean path
	apart      bool                     // no two templates name one machine
}

// keptFile is what came of one file, before it was held against others.
type keptFile struct {
	digest    string
	template  *Template
	manifests []*Manifest
	suspects  Problems
}

type keptReference struct {
	digest string // "": it is not known
	reference
}

// usedReference is a file that a template refers to, and what was in it. Its name is as the template writes it.
type usedReference struct {
	name string
	reference
}

func newKept() kept {
	return kept{files: map[string]*keptFile{}, references: map[string]keptReference{}}
}

// reusable returns what was kept, unless something could not be read: nobody knows what came of that.
func (s *Set) reusable() kept {
	if s == nil || s.seen == nil || s.seen.fsys == nil {
		return kept{}
	}

	return s.kept
}

// readFile adds what a YAML file holds to the Set.
func (f *finder) readFile(name string, listed fs.DirEntry) {
	digest, told := f.seen.file(name, listed)
	if old := f.before.files[name]; told && old != nil && old.digest == digest && f.sameReferences(old.template) {
		f.add(old)
		f.set.kept.files[name] = old

		return
	}

	templates, manifests, suspects := len(f.set.Templates), len(f.set.Manifests), len(f.suspects)

	f.parseFile(name)

	if !told {
		return
	}

	file := &keptFile{digest: digest, suspects: slices.Clone(f.suspects[suspects:])}

	for _, t := range f.set.Templates[templates:] {
		file.template = t.clone()
	}

	for _, m := range f.set.Manifests[manifests:] {
		file.manifests = append(file.manifests, m.clone())
	}

	f.set.kept.files[name] = file
}

// sameReferences reports whether a template refers to the same as when it was read. It reads what it refers to if
// nobody has.
func (f *finder) sameReferences(t *Template) bool {
	if t == nil {
		return true
	}

	for _, used := range t.references {
		if now := f.reference(t.Path, used.name); now.digest != used.digest || now.fault != used.fault {
			return false
		}
	}

	return true
}

// stillApart reports whether no two templates name one machine, without looking at all of them: nobody did before, and
// nobody names one that its file did not name before.
func (f *finder) stillApart() bool {
	templates := 0

	for name, file := range f.set.kept.files {
		if file.template == nil {
			continue
		}

		templates++

		if old := f.before.files[name]; old != file && !file.template.namesOnly(old) {
			return false
		}
	}

	return f.before.apart && templates == len(f.set.Templates) // nothing is known of files without a digest
}

// namesOnly reports whether a template names only machines that its file named before.
func (t *Template) namesOnly(old *keptFile) bool {
	if old == nil || old.template == nil {
		return len(t.machines) == 0
	}

	named := make(map[string]bool, len(old.template.machines))
	for _, m := range old.template.machines {
		named[m.id] = true
	}

	return !slices.ContainsFunc(t.machines, func(m machine) bool { return !named[m.id] })
}

func (f *finder) add(file *keptFile) {
	if file.template != nil {
		f.set.Templates = append(f.set.Templates, file.template.clone())
	}

	for _, m := range file.manifests {
		f.set.Manifests = append(f.set.Manifests, m.clone())
	}

	f.suspects = append(f.suspects, file.suspects...)
}

// knownReference returns a file that a template refers to, from before if it is the same.
func (f *finder) knownReference(name string) keptReference {
	digest, told := f.seen.digest(name)
	if old, ok := f.before.references[name]; ok && told && old.digest == digest {
		return old
	}

	ref := keptReference{reference: f.readReference(name)}
	if told {
		ref.digest = digest
	}

	return ref
}

// clone returns a copy that others can hold problems against.
func (t *Template) clone() *Template {
	c := *t
	c.Problems = slices.Clone(t.Problems)

	return &c
}

func (m *Manifest) clone() *Manifest {
	c := *m
	c.Problems = slices.Clone(m.Problems)

	return &c
}
