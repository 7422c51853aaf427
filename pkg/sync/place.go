package sync

import (
	"path"
	"slices"
	"strings"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/source"
)

// placeOf returns where a revision of a source was read from. A branch goes by its name. A tag, whether named or the
// highest of a range, and a commit are releases: one follows the other. What is checked out may be at any ref.
func placeOf(cfg *SourceConfig, revision *source.Revision) diff.Place {
	place := diff.Place{
		Repository: revision.Repository, Path: path.Join(revision.Folder, cfg.Scope.Root),
		Include: sorted(cfg.Scope.Include), Exclude: sorted(cfg.Scope.Exclude),
	}

	if cfg.Origin != "" {
		place.Repository = cfg.Origin
	}

	if place.Path == "." {
		place.Path = ""
	}

	branch, isBranch := strings.CutPrefix(revision.Ref, "refs/heads/")

	switch {
	case isBranch:
		place.Ref = branch
	case strings.HasPrefix(revision.Ref, "refs/tags/"), strings.HasPrefix(revision.ID, "sha1:"):
		place.Ref = diff.RefRelease
	default:
		place.Ref = revision.Ref
	}

	return place
}

func sorted(globs []string) []string { return slices.Sorted(slices.Values(globs)) }
