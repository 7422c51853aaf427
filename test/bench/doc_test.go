// Package bench measures omni-syncd next to upstream's own code, and next to git's, doing the
// same work in the same run. `make bench` makes the report of docs/performance.md;
// `make bench-parts` runs the Go benchmarks.
//
// The figures that count are the RPCs, the allocations and the ratio between two sides of one
// line; the machines that this runs on are shared, so seconds alone say little. The embedded
// Omni runs without its controllers here: what is measured is the client, not their churn.
package bench
