package template

import (
	"slices"
	"strings"
)

// crossCheck finds what is wrong between files. Of two that claim the same thing nobody can say which is meant, so
// each gets a problem that names the other, and neither is applied until one of them gives way.
//
// It returns these problems. If it is known that all are apart, it does not look. A template or manifest with such a
// problem is not the one that other sets hold: the problem comes and goes with the other file.
func (s *Set) crossCheck(apart bool) (all Problems) {
	if apart {
		s.kept.apart = true

		return nil
	}

	templates, manifests := map[int]Problems{}, map[int]Problems{}

	s.crossCheckClusters(templates)
	s.crossCheckMachines(templates)
	s.crossCheckManifests(manifests)
	s.kept.apart = len(templates)+len(manifests) == 0

	for i, problems := range templates {
		all = append(all, problems...)

		t := *s.Templates[i]
		t.Problems = slices.Concat(t.Problems, problems).Sorted()
		s.Templates[i] = &t
	}

	for i, problems := range manifests {
		all = append(all, problems...)

		m := *s.Manifests[i]
		m.Problems = slices.Concat(m.Problems, problems).Sorted()
		s.Manifests[i] = &m
	}

	return all
}

func (s *Set) crossCheckClusters(found map[int]Problems) {
	byName := make(map[string][]int, len(s.Templates))

	for i, t := range s.Templates {
		if t.Name != "" { // upstream says that it is missing
			byName[t.Name] = append(byName[t.Name], i)
		}
	}

	for name, same := range byName {
		for i, t := range same {
			if other := otherThan(i, len(same)); other >= 0 {
				at := s.Templates[same[other]].At(kindCluster, "", "name")
				found[t] = append(found[t], Problemf(s.Templates[t].At(kindCluster, "", "name"),
					"cluster %q is also defined at %s: remove one of them", name, at).Of(RuleDuplicate).With(at))
			}
		}
	}
}

func (s *Set) crossCheckMachines(found map[int]Problems) {
	type use struct {
		by int // the template
		machine
	}

	machines := 0
	for _, t := range s.Templates {
		machines += len(t.machines)
	}

	var (
		users = make(map[string]int, machines) // whoever names a machine first
		byID  = map[string][]use{}             // those that somebody else names, too
	)

	// Machine IDs are UUIDs: the same in upper and lower case.
	for i, t := range s.Templates {
		for _, m := range t.machines {
			id := strings.ToLower(m.id)

			switch first, named := users[id]; {
			case !named:
				users[id] = i
			case first != i:
				byID[id] = nil
			}
		}
	}

	if len(byID) == 0 {
		return
	}

	for i, t := range s.Templates {
		for _, m := range t.machines {
			id := strings.ToLower(m.id)
			uses, shared := byID[id]

			// Twice in one template is upstream's to judge.
			if shared && (len(uses) == 0 || uses[len(uses)-1].by != i) {
				byID[id] = append(uses, use{i, m})
			}
		}
	}

	for _, uses := range byID {
		for i, u := range uses {
			other := otherThan(i, len(uses))
			if other < 0 {
				continue
			}

			if name := s.Templates[uses[other].by].Name; name != s.Templates[u.by].Name {
				found[u.by] = append(found[u.by], Problemf(u.at,
					"machine %s is also in cluster %q, at %s: it can be in one cluster only", u.id, name, uses[other].at).
					Of(RuleDuplicate).With(uses[other].at))
			}
		}
	}
}

func (s *Set) crossCheckManifests(found map[int]Problems) {
	byName := map[[3]string][]int{}

	for i, m := range s.Manifests {
		key := [3]string{m.Namespace, m.Type, m.ID}
		byName[key] = append(byName[key], i)
	}

	for _, same := range byName {
		for i := range same {
			if other := otherThan(i, len(same)); other >= 0 {
				m, at := s.Manifests[same[i]], s.Manifests[same[other]].At("metadata", "id")
				found[same[i]] = append(found[same[i]], Problemf(m.At("metadata", "id"),
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
