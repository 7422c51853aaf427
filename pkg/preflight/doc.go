// Package preflight says what Omni would refuse, before anything is written.
//
// It stands between two stages of the flow
//
//	source → template → render → diff → [preflight] → sync → omni
//
// Omni judges one write at a time. A change that it refuses halfway (a cluster and its
// machine sets are made, and then its machines are not taken) leaves behind what nobody
// asked for. [Check] asks the same questions of the live state that the snapshot holds,
// of all writes at once.
//
// # How strict it is
//
// Exactly as strict as the Omni that it is asked about, from 1.9 to what becomes 1.11: it
// never refuses what that Omni accepts, with one exception (see below). Where releases
// differ, versions.go says which has which rule, and nothing else looks at the version. Of
// an Omni that does not say which it is ([Input].Server), only what all of them refuse is
// found. One that is newer than all of them is taken for the newest.
//
// Whatever is not known is not judged, and left to Omni: a catalogue that the snapshot does
// not hold or that is empty, a version that cannot be parsed, a limit that this Omni does not
// tell.
//
// A write is judged against what Omni holds at the moment of that write, and a plan
// creates before it updates. So a machine or an extension that is added in the same
// revision in which its cluster gets another Talos meets the Talos that the cluster has now.
//
// The exception is a machine set without machines that leaves its machine class. Omni
// accepts that, and can never delete the machine set after it: the controller of machine
// classes does not look at it any more and keeps its finalizer for good.
//
// Whether a locked machine has to leave is read from the plan: what its machine set or cluster
// takes along may go, and a lock that came from Git is taken off first.
//
// # What it leaves to others
//
// What cannot be right whatever Omni holds (the syntax of versions, names, patches) is
// refused when the template is rendered. What belongs to somebody else, among it a machine
// of another cluster, is a conflict or is awaited in the plan: package diff reports it,
// and nothing here reports it a second time.
package preflight
