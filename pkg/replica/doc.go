// Package replica lets several replicas of the daemon run in one Kubernetes cluster, of
// which one writes.
//
//	source ──▶ template ──▶ render ──▶ diff ──▶ sync ──▶ omni
//	                                             ▲         ▲
//	                         who may write: Lease│         │Fence: nothing gets out later
//	                                             └ replica ┘
//
// It stands beside the flow. All replicas follow Git and Omni and plan; the one that holds
// the [Lease] also applies. A [Fence] is put under its connection, so that a process that
// was paused or cut off cannot write late. [Suspensions] are what people suspended, kept in a
// ConfigMap for whichever replica leads, and [Endpoints] lead the API's callers and webhooks
// to the one that does.
//
// What is kept in Kubernetes is a convenience: the truth is in Git and Omni (G10). Only the
// right to write depends on it, and without an answer from Kubernetes nobody has that.
package replica
