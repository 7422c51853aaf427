package conformance

import (
	"slices"
	"testing"

	"github.com/blang/semver/v4"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// catalogue is what the tests need of the versions that this Omni offers.
type catalogue struct {
	talos, talosPatch     string // of one minor, the patch the newer
	talosDown, talosUp    string // of the minor before and after
	talosDeprecated       string // "" if there is none
	kubernetes            string // of the clusters: every Talos above takes it
	kubernetesUp          string // next minor, for talos
	kubernetesTwoUp       string // the minor after that, for talosUp and not for talos
	kubernetesDown        string // minor before, for talos
	extension, extension2 string // for talos
}

func readCatalogue(t *testing.T, st state.State) *catalogue {
	t.Helper()

	versions, err := safe.StateListAll[*omni.TalosVersion](testContext(t), st)
	must(t, err)

	c := &catalogue{}
	takes := map[string][]string{} // Talos → Kubernetes
	offered := map[uint64][]semver.Version{}

	for version := range versions.All() {
		id := version.Metadata().ID()

		switch parsed, err := semver.Parse(id); {
		case err != nil, len(parsed.Pre) > 0, version.TypedSpec().Value.GetUnsupported():
		case version.TypedSpec().Value.GetDeprecated():
			c.talosDeprecated = id
		default:
			takes[id] = version.TypedSpec().Value.GetCompatibleKubernetesVersions()
			offered[parsed.Minor] = append(offered[parsed.Minor], parsed)
		}
	}

	for minor, patches := range offered {
		slices.SortFunc(patches, semver.Version.Compare)

		before, after := offered[minor-1], offered[minor+1]
		if len(patches) > 1 && len(before) > 0 && len(after) > 0 {
			c.talos, c.talosPatch = patches[0].String(), patches[len(patches)-1].String()
			c.talosDown, c.talosUp = before[0].String(), after[0].String()
		}
	}

	if c.talos == "" {
		t.Skipf("this Omni offers no three minor versions of Talos in a row, of which one has patches: %v", offered)
	}

	c.pickKubernetes(t, takes)

	extensions, err := safe.StateGetByID[*omni.TalosExtensions](testContext(t), st, c.talos)
	must(t, err)

	items := extensions.TypedSpec().Value.GetItems()
	if len(items) < 2 {
		t.Skip("this Omni's catalogue has no two extensions")
	}

	c.extension, c.extension2 = items[0].GetName(), items[1].GetName()

	return c
}

// pickKubernetes takes the newest minor of which talosUp takes the second next and talos does not.
func (c *catalogue) pickKubernetes(t *testing.T, takes map[string][]string) {
	t.Helper()

	first := func(minor uint64, talos string) string {
		for _, version := range takes[talos] {
			if semver.MustParse(version).Minor == minor {
				return version
			}
		}

		return ""
	}

	for _, version := range takes[c.talos] {
		minor := semver.MustParse(version).Minor
		up, twoUp, down := first(minor+1, c.talos), first(minor+2, c.talosUp), first(minor-1, c.talos)

		everywhere := slices.Contains(takes[c.talosDown], version) && slices.Contains(takes[c.talosUp], version)
		if everywhere && up != "" && twoUp != "" && down != "" && first(minor+2, c.talos) == "" {
			c.kubernetes, c.kubernetesUp, c.kubernetesTwoUp, c.kubernetesDown = version, up, twoUp, down

			return
		}
	}

	t.Skipf("this Omni offers no suitable versions of Kubernetes: %v", takes)
}
