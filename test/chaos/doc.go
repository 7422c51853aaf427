// Package chaos lets go of everything at once: the real binary follows a real Git
// repository and drives an embedded Omni behind a faulty network, while commits, edits in
// the UI, locks, faults, restored databases and kill -9 arrive at random.
//
// A run is a sequence of steps that comes from a seed alone: the same seed gives the same
// steps with the same arguments. What a step picks in Omni (the third patch) depends on
// what is there at that moment, and the timing is the machine's.
//
// After every step the invariants are checked over the log of writes (invariants_test.go).
// Every few steps there is a quiet point: faults and locks are taken away, the revision is
// made whole, and Omni has to become what Git says (quiet_test.go).
//
//	go test ./test/chaos                                  a minute, with a seed that is printed
//	CHAOS_SEED=42 CHAOS_STEPS=2000 go test -timeout 0 …   make chaos SEED=42 STEPS=2000
//	CHAOS_DURATION=10m                                    until then, however many steps
package chaos
