package template

import (
	"strings"
)

// crossCheck finds what is wrong between files. Of two that claim the same thing nobody can say which is meant, so
// each gets a problem that names the other, and neither is applied until one of them gives way.
//
// To know that no two templates name one machine spares looking at all machines.
func (s *Set) crossCheck(apart bool) {
	s.crossCheckClusters()
	s.crossCheckManifests()

	s.kept.apart = apart || s.crossCheckMachines()
}

func (s *Set) crossCheckClusters() {
	byName := map[string][]*Template{}

	for _, t := range s.Templates {
		if t.Name != "" { // upstream says that it is missing
			byName[t.Name] = append(byName[t.Name], t)
		}
	}

	for name, same := range byName {
		for i, t := range same {
			if other := otherThan(i, len(same)); other >= 0 {
				at := same[other].At(kindCluster, "", "name")
				t.Problems = append(t.Problems, Problemf(t.At(kindCluster, "", "name"),
					"cluster %q is also defined at %s: remove one of them", name, at).Of(RuleDuplicate).With(at))
			}
		}
	}
}

// crossCheckMachines reports whether no two templates name one machine.
func (s *Set) crossCheckMachines() (apart bool) {
	type use struct {
		by *Template
		machine
	}

	machines := 0
	for _, t := range s.Templates {
		machines += len(t.machines)
	}

	var (
		users = make(map[string]*Template, machines) // whoever names a machine first
		byID  = map[string][]use{}                   // those that somebody else names, too
	)

	// Machine IDs are UUIDs: the same in upper and lower case.
	for _, t := range s.Templates {
		for _, m := range t.machines {
			id := strings.ToLower(m.id)

			switch first, named := users[id]; {
			case !named:
				users[id] = t
			case first != t:
				byID[id] = nil
			}
		}
	}

	if len(byID) == 0 {
		return true
	}

	for _, t := range s.Templates {
		for _, m := range t.machines {
			id := strings.ToLower(m.id)
			uses, shared := byID[id]

			// Twice in one template is upstream's to judge.
			if shared && (len(uses) == 0 || uses[len(uses)-1].by != t) {
				byID[id] = append(uses, use{t, m})
			}
		}
	}

	for _, uses := range byID {
		for i, u := range uses {
			if other := otherThan(i, len(uses)); other >= 0 && uses[other].by.Name != u.by.Name {
				u.by.Problems = append(u.by.Problems, Problemf(u.at,
					"machine %s is also in cluster %q, at %s: it can be in one cluster only", u.id, uses[other].by.Name, uses[other].at).
					Of(RuleDuplicate).With(uses[other].at))
			}
		}
	}

	return false
}

func (s *Set) crossCheckManifests() {
	byName := map[[3]string][]*Manifest{}

	for _, m := range s.Manifests {
		key := [3]string{m.Namespace, m.Type, m.ID}
		byName[key] = append(byName[key], m)
	}

	for _, same := range byName {
		for i, m := range same {
			if other := otherThan(i, len(same)); other >= 0 {
				at := same[other].At("metadata", "id")
				m.Problems = append(m.Problems, Problemf(m.At("metadata", "id"),
					"%s %q is also defined at %s: remove one of them", m.Type, m.ID, at).Of(RuleDuplicate).With(at))
			}
		}
	}
}

// otherThan returns the index that an element of n equal ones should point at: the first, or from the first the
// second; -1 if there is no other.
func otherThan(i, n int) int {
	switch {
	case n < 2:
		return -1
	case i == 0:
		return 1
	default:
		return 0
	}
}
