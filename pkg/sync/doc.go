// Package sync makes Omni follow Git: it runs the stages of the flow and owns what
// happens between them.
//
//	source → template → render → diff → [sync] → omni
//
// [Engine.Run] names all stages; read it first. A revision becomes targets, one per
// cluster and one for the fleet resources of a source. Targets sit in a keyed queue:
// a new revision queues those whose content changed, the Snapshot those that changed
// in Omni, and an error those that failed, with backoff. A worker takes one, plans it
// from memory and applies the plan; with nothing to do that costs no RPC (G3).
//
// What an error means for the queue is its type: [RetryError], [WaitError],
// [StalledError]. What people see is [Status].
package sync
