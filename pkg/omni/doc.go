// Package omni is the connection to Omni and the live state held from it. It is the right-hand end of the flow
//
//	source → template → render → diff → sync → omni
//
// [Dial] opens one signed gRPC connection: [Conn.State] reads and writes resources, [Conn.Management] asks for
// kubeconfigs and talosconfigs, [Conn.Check] tells early, in one line, why an Omni cannot be used.
//
// [Snapshot] holds a copy of every resource of some kinds by watching them, so that a pass that has nothing to do
// makes no call at all. It answers by type and ID, by cluster and by tag, and it tells subscribers which cluster changed.
//
// # What a snapshot promises
//
// It is ready when every kind has been read completely and no watch has been down for longer than
// [SnapshotConfig.StaleAfter]. Nothing may be decided from a snapshot that is not ready. A ready snapshot may lag behind
// Omni, but every watch that is up converges, and every real change is notified at least once after it can be read.
// A kind that came with some release ([Kind].Since) counts from the moment that such a server is known.
//
// Three things are told about a resource, and this is who wins:
//
//   - The watch is a stream in the order of Omni's history. Its events are taken as they come, whatever their version,
//     except where they are older than something we did ourselves.
//   - A bootstrap (a watch that starts with the complete contents) is the truth about everything we did before it was
//     asked for. Versions may go backwards in it, because a database can be restored. What it lacks is gone. Against
//     something we did after it was asked for it wins only if it is newer.
//   - Our own writes ([Snapshot.Put], [Snapshot.TearingDown], [Snapshot.Removed]) and what Omni answered
//     ([Snapshot.Read]) go in at once, because the watch lags.
//     They are hints: one that might belong to an earlier life of the same ID is ignored, since the watch brings the
//     truth anyway. Until the watch has shown an own write, older events cannot undo it.
//
// A watch can die without a word: a connection that leads nowhere, a bookmark from the future after Omni's database
// was restored. Four things find that out: keepalive pings; a bootstrap a few seconds after every resume; a bootstrap
// when an own write, or what Omni answered to a single read, has not come back on the watch within seconds; and a
// bootstrap on a slow timer.
//
// So being ready is enough to plan and to show, and not to write. Whoever writes asks for more: that the snapshot is
// [Snapshot.Current], which it is not from a second after any watch was lost until all are back, and a read of what
// must not have changed, whose answer [Snapshot.Read] takes. A watch that was down for longer than that second does not
// resume: what is held after an outage was read after it.
//
// # What a connection promises
//
// A write has a deadline, that of its context, and nothing of it is delivered later: the connection is reset, and the
// kernel throws away what it could not deliver. The same holds for a connection that is closed, and for a process that
// ends. Data that the other side does not acknowledge ends the connection within KeepaliveTimeout. What is left is a
// proxy that has acknowledged a request and holds it back; Omni refuses it after five minutes by the time in its signature.
//
// The package decides nothing about what should change, and it imports no other package of this module.
package omni
