package diff

import (
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

// A template may say with a key of a newer release what this build's protobufs do not know. The cluster's [MarkApplied]
// remembers that it did: when it leaves the template, Omni's default comes back, while what a person sets in Omni and no
// template ever mentioned stays (G14).

const appliedField = "field/"

// flags returns the fields that Git says, or said last, of a live cluster.
func (c *computation) flags(have resource.Resource) []livestate.Flag {
	if have.Metadata().Type() != omni.ClusterType {
		return nil
	}

	var flags []livestate.Flag

	applied := appliedTo(have)

	for _, n := range schema.Switches() {
		if applied[appliedField+n.String()] || slices.Contains(c.Set, n) {
			flags = append(flags, render.FlagOf(n))
		}
	}

	return flags
}

// appliedFields returns the value of MarkApplied for a cluster whose template sets such keys.
func (c *computation) appliedFields() string {
	keys := []string{}
	for _, n := range c.Set {
		keys = append(keys, appliedField+n.String())
	}

	slices.Sort(keys)

	return encodeMark(keys)
}

// newerFields returns the fields that templates of newer releases have, and what differs between two clusters in those that
// this build's protobufs lack.
func newerFields(have, want resource.Resource) (flags []livestate.Flag, fields []Field) {
	if have.Metadata().Type() != omni.ClusterType {
		return nil, nil
	}

	for _, n := range schema.Switches() {
		flag := render.FlagOf(n)
		flags = append(flags, flag)

		if flag.Known() {
			continue // it is compared with the others
		}

		if before, after := flag.Get(have), flag.Get(want); before != after {
			field := Field{Path: "spec." + strings.ToLower(n.String()), New: "true"}
			if before {
				field.Old, field.New = "true", "false"
			}

			fields = append(fields, field)
		}
	}

	return flags, fields
}
