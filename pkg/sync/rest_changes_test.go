package sync_test

import (
	"fmt"
	"slices"
	"strings"
)

// described is a cluster as Git has it.
type described struct {
	kubernetes, talos       string
	label, patch            int
	controlPlanes, machines []string
}

func (d *described) text(name string) string {
	list := func(machines []string) (text string) {
		for _, m := range machines {
			text += "  - " + m + "\n"
		}

		return text
	}

	return fmt.Sprintf("kind: Cluster\nname: %s\nlabels: {n: \"%d\"}\nkubernetes: {version: v%s}\ntalos: {version: v%s}\npatches:\n  - name: env\n    inline: {machine: {env: {N: \"%d\"}}}\n---\n"+
		"kind: ControlPlane\nmachines:\n%s---\nkind: Workers\nmachines:\n%s", name, d.label, d.kubernetes, d.talos, d.patch, list(d.controlPlanes), list(d.machines))
}

// change changes one thing about one to three clusters.
func (w *waiting) change() string {
	var all []string

	names := []string{"a", "b", "c", "d"}
	w.random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })

	for _, name := range names[:1+w.random.IntN(3)] {
		what := w.changeOne(name)
		w.kinds[what]++

		all = append(all, name+": "+what)
	}

	return strings.Join(all, ", ")
}

func (w *waiting) changeOne(name string) string {
	d := w.clusters[name]
	if d == nil {
		w.clusters[name] = &described{kubernetes: "1.34.0", talos: "1.12.0", controlPlanes: w.machines(1), machines: w.machines(1 + w.random.IntN(2))}

		return "a new cluster"
	}

	other := func(now string, all ...string) string {
		all = slices.DeleteFunc(all, func(s string) bool { return s == now })

		return all[w.random.IntN(len(all))]
	}

	switch w.random.IntN(9) {
	case 0, 1:
		if strings.HasPrefix(d.kubernetes, "1.35") { // Omni never goes down by a minor version
			d.kubernetes = other(d.kubernetes, "1.35.0", "1.35.5")
		} else {
			d.kubernetes = other(d.kubernetes, "1.34.0", "1.34.3", "1.35.0", "1.35.5")
		}

		return "Kubernetes"
	case 2, 3:
		d.talos = other(d.talos, "1.12.0", "1.12.8", "1.13.0", "1.13.5")

		return "Talos"
	case 4:
		d.label++

		return "a label"
	case 5:
		d.patch++

		return "a patch"
	case 6:
		d.machines = append(d.machines, w.machines(1+w.random.IntN(2))...)

		return "more machines"
	case 7:
		if len(d.machines) > 1 {
			d.machines = d.machines[1:]

			return "fewer machines"
		}

		d.controlPlanes = append(d.controlPlanes, w.machines(2)...)

		return "more control planes"
	default:
		if len(w.clusters) == 1 { // an empty repository deletes nothing
			d.patch++

			return "a patch"
		}

		delete(w.clusters, name)

		return "removed"
	}
}

func (w *waiting) machines(n int) (ids []string) {
	for range n {
		w.next++
		ids = append(ids, machine(w.next))
	}

	return ids
}
