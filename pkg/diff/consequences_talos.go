package diff

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/container"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
	talosmerge "github.com/siderolabs/talos/pkg/machinery/config/merge"
	"go.yaml.in/yaml/v4"
)

// emptyConfig is what patches are applied to, to see what they come to: what Omni itself
// generates is the same before and after.
const emptyConfig = "version: v1alpha1\nmachine: {}\ncluster: {}\n"

// compareConfig finds what differs between what the patches of machines come to.
func compareConfig(before, after *merger, u unit) *configEffect {
	old, errOld := before.config(u)
	new, errNew := after.config(u)

	if errOld != nil || errNew != nil {
		return &configEffect{unknown: true}
	}

	effect := &configEffect{}

	for _, id := range keys(old, new) {
		switch a, b := old[id], new[id]; {
		case reflect.DeepEqual(a, b):
		case id == "":
			effect.paths = differing(a, b, nil)
		default:
			effect.documents = append(effect.documents, id)
		}
	}

	return effect
}

// errUnread says that a patch is not what Talos' parser was made for.
var errUnread = errors.New("the patches cannot be read")

// merged applies patches to documents, which stay as they are; nil are those of an empty
// configuration. A patch that deletes is an error: it may take away what Omni generates. What
// is wrong is not for anybody to read: it may quote a secret.
func merged(onto []config.Document, patches []*configPatch) (parts []config.Document, err error) {
	defer unread(&err)

	if onto == nil {
		empty, err := configloader.NewFromBytes([]byte(emptyConfig))
		if err != nil {
			return nil, err
		}

		onto = empty.Documents()
	}

	for _, part := range onto {
		parts = append(parts, part.Clone())
	}

	for _, p := range patches {
		patch, err := configloader.NewFromBytes([]byte(p.payload))
		if err != nil {
			return nil, err
		}

		for _, part := range patch.Documents() {
			at := slices.IndexFunc(parts, func(d config.Document) bool { return documentID(d) == documentID(part) })
			if at < 0 {
				parts = append(parts, part)
			} else if err := talosmerge.Merge(parts[at], part); err != nil {
				return nil, err
			}
		}
	}

	return parts, nil
}

// unread makes an error of a parser's panic: it met what it was not made for.
func unread(err *error) {
	if recover() != nil {
		*err = errUnread
	}
}

// encoded returns documents by their kind; that of Talos' main document is "".
func encoded(parts []config.Document) (documents map[string]any, err error) {
	defer unread(&err)

	whole, err := container.New(parts...)
	if err != nil {
		return nil, err
	}

	data, err := whole.EncodeBytes(encoder.WithComments(encoder.CommentsDisabled))
	if err != nil {
		return nil, err
	}

	documents = map[string]any{}
	decoder := yaml.NewDecoder(bytes.NewReader(data))

	for {
		var document map[string]any

		switch err := decoder.Decode(&document); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, err
		}

		id, _ := document["kind"].(string)
		if name, ok := document["name"].(string); ok && id != "" {
			id += " " + name
		}

		documents[id] = document
	}
}

// documentID tells which documents Talos merges with each other.
func documentID(d config.Document) string {
	id := d.APIVersion() + "/" + d.Kind()
	if named, ok := d.(config.NamedDocument); ok {
		id += "/" + named.Name()
	}

	return id
}

// differing returns the keys under which two values differ, down to where one of them is no
// mapping.
func differing(a, b any, at []string) [][]string {
	old, isOld := a.(map[string]any)
	new, isNew := b.(map[string]any)

	switch {
	case reflect.DeepEqual(a, b):
		return nil
	case a == nil && isNew:
		old = nil
	case b == nil && isOld:
		new = nil
	case !isOld || !isNew:
		return [][]string{slices.Clone(at)}
	}

	var paths [][]string

	for _, key := range keys(old, new) {
		paths = append(paths, differing(old[key], new[key], append(slices.Clone(at), key))...)
	}

	if len(paths) == 0 { // an empty mapping comes or goes
		return [][]string{slices.Clone(at)}
	}

	return paths
}

// keys returns those of both mappings, either of which may be nil.
func keys(a, b map[string]any) []string {
	all := map[string]any{}
	maps.Copy(all, a)
	maps.Copy(all, b)

	return sortedKeys(all)
}

// What is known of a version of Talos.
const (
	unknownTalos = iota
	byField
	neverReboots
)

// rebootRule returns when a version of Talos reboots to apply a configuration. From 1.10 to
// 1.13 by what changes in its main document; other documents never need it
// (internal/app/machined/pkg/runtime/v1alpha1/v1alpha1_runtime.go, CanApplyImmediate). From
// 1.14 on never (internal/app/machined/internal/server/v1alpha1/v1alpha1_server.go,
// ApplyConfiguration). Omni leaves the choice to Talos (machineconfig/status.go, applyConfig).
func rebootRule(talos string) int {
	version, err := semver.ParseTolerant(talos)

	switch {
	case err != nil || version.Major != 1 || version.Minor < 10:
		return unknownTalos
	case version.Minor < 14:
		return byField
	case version.Minor == 14:
		return neverReboots
	default:
		return unknownTalos
	}
}

// withoutReboot is what Talos 1.10 to 1.13 applies to a running machine.
var withoutReboot = []string{
	"debug", "cluster", "machine.ca", "machine.acceptedCAs", "machine.time", "machine.certSANs", "machine.install", "machine.network",
	"machine.sysfs", "machine.sysctls", "machine.logging", "machine.controlPlane", "machine.kubelet", "machine.kernel", "machine.registries",
	"machine.pods", "machine.seccompProfiles", "machine.nodeAnnotations", "machine.nodeLabels", "machine.nodeTaints",
	"machine.features.kubernetesTalosAPIAccess", "machine.features.kubePrism", "machine.features.hostDNS",
	"machine.features.imageCache", "machine.features.nodeAddressSortAlgorithm",
}

func immediate(path []string) bool {
	return slices.ContainsFunc(withoutReboot, func(prefix string) bool { return under(path, prefix) })
}

func under(path []string, prefix string) bool {
	keys := strings.Split(prefix, ".")

	return len(path) >= len(keys) && slices.Equal(path[:len(keys)], keys)
}

// shownDepth bounds how much of a path is shown: deeper down, keys are the user's own and
// could be anything.
const shownDepth = 3

func shownPath(path []string) string {
	shown := strings.Join(path[:min(len(path), shownDepth)], ".")
	if shown == "" {
		return "all of it"
	}

	return shown
}

func uniq(list []string) []string {
	slices.Sort(list)

	return slices.Compact(list)
}
