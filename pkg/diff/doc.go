// Package diff compares what Git wants with what Omni has.
//
// It is the fourth stage of the flow
//
//	source → template → render → [diff] → sync → omni
//
// [Compute] takes the resources a target renders to and the live resources that
// belong to it, and returns a [Plan]: the smallest ordered set of writes that
// makes Omni follow Git, and everything that stands in the way. A plan is plain
// data. Computing one writes nothing, reads no clock and logs nothing, so the
// plan that a person reviews, the plan that a pull request shows and the plan
// that is applied are the same plan.
package diff
