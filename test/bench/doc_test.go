// Package bench measures omni-syncd next to upstream's own code, and next to git's, doing the
// same work in the same run. `make report` runs all of it and writes docs/performance.md's
// figures; `make bench` runs the Go benchmarks.
//
// The figures that count are the RPCs, the allocations and the ratio between two sides of one
// line; the machines that this runs on are shared, so seconds alone say little. The embedded
// Omni runs without its controllers here: what is measured is the client, not their churn.
package bench
