package sync

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// What people are told of what leaves.

// foretell says when what left Git would go, for a plan that is not applied.
func (e *Engine) foretell(t *target, r resource.Resource) string {
	text := "leaves: destroyed at once"
	if t.src.DeleteAfter > 0 {
		text = fmt.Sprintf("leaves: destroyed %s after the merge", shortDuration(t.src.DeleteAfter))
	}

	return e.renamed(t, r) + text
}

// countdown says when what left Git goes, and notes it for those who watch.
func (e *Engine) countdown(t *target, r resource.Resource, mark diff.Departure, left time.Duration) string {
	c := Countdown{
		At:     time.Now().Add(left),
		before: e.renamed(t, r) + "leaving: destroyed ",
		after:  fmt.Sprintf(" (removed in %s); put the template back to keep it, or `omni-syncd confirm %s` to go now", short(mark.Revision), confirmName(r)),
	}

	if r.Metadata().ID() != t.Target {
		c.before = diff.Name(r) + ": " + c.before
	}

	if t.countdown.At.IsZero() || c.At.Before(t.countdown.At) {
		t.countdown = c
	}

	return c.in(left)
}

// Countdown says when something that left Git goes. The zero value: nothing does.
type Countdown struct {
	At            time.Time
	before, after string
}

// MessageAt returns the message of a target at a moment: it counts down.
func (t *TargetStatus) MessageAt(now time.Time) string {
	if t.Leaving.At.IsZero() || t.Cause != CauseLeaving {
		return t.Message
	}

	return t.Leaving.in(t.Leaving.At.Sub(now))
}

func (c *Countdown) in(left time.Duration) string {
	return c.before + "in " + shortDuration(left) + c.after
}

// renamed says that a cluster left because its template has another name by now; "" if not.
func (e *Engine) renamed(t *target, r resource.Resource) string {
	origin, _ := diff.OriginOf(r)
	if origin.File == "" || r.Metadata().Type() != omni.ClusterType {
		return ""
	}

	for _, other := range t.from.targets {
		if other.Path != "" && t.from.fileOf(other.Path) == origin.File {
			return fmt.Sprintf("renamed: destroys %s, creates %s; ", t.Target, other.Name)
		}
	}

	return ""
}

func toDelete(r resource.Resource) string {
	return "`omni-syncd confirm " + confirmName(r) + "` to delete it"
}

// confirmName is what `omni-syncd confirm` calls a resource.
func confirmName(r resource.Resource) string {
	if r.Metadata().Type() == omni.ClusterType {
		return r.Metadata().ID()
	}

	return diff.Kind(r.Metadata().Type()) + "/" + r.Metadata().ID()
}

// short cuts a commit or revision to what people compare by eye.
func short(revision string) string {
	if at := strings.LastIndexByte(revision, ':'); at >= 0 {
		revision = revision[at+1:]
	}

	return cmp.Or(revision[:min(len(revision), 12)], "an unknown commit")
}

// shortDuration writes a duration without its zeros: 5m, 4m50s.
func shortDuration(d time.Duration) string {
	text := max(d, 0).Round(time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}

	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}

	return text
}
