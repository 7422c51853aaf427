package diff

import (
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
)

// disks tells what becomes of the disks that machines are installed on. Installing happens once: a machine that is installed stays
// where it is, whatever is picked (internal/backend/runtime/omni/controllers/omni/installdisk of Omni 1.11).
func (s *story) disks() {
	const once = "A machine that is installed already stays as it is, until it is wiped and installed again."

	var picked, left []resource.ID

	for _, c := range s.changes(installdisk.Type, Create, Update, Destroy) {
		switch {
		case c.Action == Destroy:
			left = append(left, c.Metadata().ID())
		case c.Old == nil || !livestate.EqualSpec(c.Old, c.New):
			picked = append(picked, c.Metadata().ID())
		}
	}

	slices.Sort(picked)
	slices.Sort(left)

	if n := len(picked); n > 0 {
		s.tell(Info, nil, "disk of "+count(n, "machine"), "Another disk is picked for %s to be installed on. %s", s.names(picked), once)
	}

	if n := len(left); n > 0 {
		s.tell(Info, nil, "disk of "+count(n, "machine"), "Git no longer says which disk %s %s installed on: Omni picks one. %s", s.names(left), each(n, "is", "are"), once)
	}

	if released := s.changes(installdisk.Type, Release); len(released) > 0 {
		s.tell(Info, nil, "", "The disk to install on of %s left Git and stays picked: Omni keeps it with the machine.", count(len(released), "machine"))
	}
}
