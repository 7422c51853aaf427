package diff

import (
	"encoding/json"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/kvutils"
)

// State is how far a cluster or fleet resource that left Git has come.
type State string

// The states, each an annotation of its own, so that people read it in Omni. A resource has one at most.
const (
	// Leaving is destroyed after a while, unless it comes back.
	Leaving State = "omni-syncd/leaving"
	// Kept stays until it comes back or somebody confirms its deletion.
	Kept State = "omni-syncd/kept"
	// Destroying is about to be torn down by the daemon that wrote it, and by no other. Nobody takes it over.
	Destroying State = "omni-syncd/destroying"
)

// Departure is the mark of what left Git: the annotation that its State names.
type Departure struct {
	State State `json:"-"`
	// ID is random. A confirmation is bound to it, so that it covers this departure and no later one.
	ID string `json:"id"`
	// Repository is what the source reads that wrote it: the mark means nothing to another source of the same name.
	Repository string `json:"repository,omitempty"`
	// Revision is the one in which it was missing first, and Author is who wrote that; "" if unknown.
	Revision string `json:"revision,omitempty"`
	Author   string `json:"author,omitempty"`
	// By is the place of the source that keeps it, if that is another one than it comes from. A confirmation is for that.
	By string `json:"by,omitempty"`
	// Cause tells why it is Kept, in a word, and Reason in words.
	Cause  string `json:"cause,omitempty"`
	Reason string `json:"reason,omitempty"`

	// Confirmed says that somebody confirmed exactly this departure.
	Confirmed bool `json:"-"`
}

// MarkConfirmed, beside the mark of a departure, holds the ID that somebody confirmed. On a cluster that stays it holds
// the digest of what may be taken out of it.
const MarkConfirmed = "omni-syncd/confirmed"

// DepartureOf returns the mark of what left Git; the zero Departure if there is none. A mark that somebody broke counts
// as one that no confirmation is for.
func DepartureOf(r resource.Resource) Departure {
	annotations := r.Metadata().Annotations()

	for _, state := range []State{Destroying, Kept, Leaving} {
		value, ok := annotations.Get(string(state))
		if !ok {
			continue
		}

		var d Departure
		if json.Unmarshal([]byte(value), &d) != nil {
			d = Departure{}
		}

		d.State = state
		confirmed, _ := annotations.Get(MarkConfirmed)
		d.Confirmed = d.ID != "" && confirmed == d.ID

		return d
	}

	return Departure{}
}

// confirmsGuard reports whether what is confirmed on a live cluster is no departure.
func confirmsGuard(live resource.Resource) bool {
	return hasAnnotation(live, MarkConfirmed) && DepartureOf(live).State == ""
}

// Departing returns a copy of a live resource with the mark d in place of any other.
func Departing(live resource.Resource, d Departure) resource.Resource {
	r := live.DeepCopy()

	r.Metadata().Annotations().Do(func(annotations kvutils.TempKV) {
		for _, mark := range departureMarks {
			annotations.Delete(mark)
		}

		annotations.Set(string(d.State), encodeMark(d))

		if d.Confirmed {
			annotations.Set(MarkConfirmed, d.ID)
		}
	})

	return r
}

var departureMarks = []string{string(Leaving), string(Kept), string(Destroying), MarkConfirmed}

// Fate is what a plan does with one resource that left Git. The zero value keeps it.
type Fate struct {
	Step Step
	// Reason says why it stays, or when it goes, in words.
	Reason string
	// Asks says that it would go if somebody confirmed it; without it, it stays on purpose.
	Asks bool
	// Mark is what [StepMark] writes.
	Mark Departure
}

// Step is what a [Fate] does.
type Step int

const (
	// StepKeep leaves it as it is: Fate.Reason says why.
	StepKeep Step = iota
	// StepWait leaves it as it is for now: it goes by itself, as Fate.Reason says.
	StepWait
	// StepMark writes Fate.Mark.
	StepMark
	// StepDestroy tears it down.
	StepDestroy
	// StepRelease takes our marks off it and leaves it in Omni.
	StepRelease
)
