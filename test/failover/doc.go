// Package failover breaks the replica that leads, again and again, and looks at who writes:
// two and three daemons (the real binary) follow one repository, with their Lease in a real
// kube-apiserver and the embedded Omni as the one that sees every write.
//
// They are killed, paused and woken up late, cut off from the apiserver and stopped in order,
// each in the middle of writing. One judge watches over all of it: nobody writes who does
// not hold the Lease, nothing is destroyed that is in Git, and when another one has taken
// over, Omni is what Git says.
package failover
