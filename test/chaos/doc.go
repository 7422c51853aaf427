// Package chaos lets go of everything at once: the real binary follows a real Git
// repository and drives an embedded Omni behind a faulty network, while commits, edits in
// the UI, locks, faults, restored databases and kill -9 arrive at random.
//
// A run is a sequence of steps that comes from a seed alone: the same seed gives the same
// steps with the same arguments. What a step picks in Omni (the third patch) depends on
// what is there at that moment, and the timing is the machine's.
//
// After every step the invariants are checked over the log of writes (invariants_test.go):
// each write of the daemon is judged by what it must have known, whatever answer it got.
// What others own and lock is watched in the database itself (shadow_test.go). So are the
// marks of what leaves Git, from version to version: a deletion that begins is judged by the
// mark before it, the time since, the budget, where the cluster came from, and the revisions
// that the daemon says in its log that it had (departures_test.go). deleteAfter and
// deleteWindow are seconds.
//
// Every few steps there is a quiet point: faults and locks are taken away, the revision is
// made whole, and Omni has to become what Git says (quiet_test.go): what may not leave Omni
// by itself is confirmed, by the command or in Omni (confirm_test.go). Then some traps are
// set: coincidences that random steps meet too rarely, each made for one guard, when
// nothing excuses a wrong write (traps_test.go, traps_git_test.go; traps_leaving_test.go and
// traps_place_test.go for deletions, other scopes, branches and repositories, a folder outside
// of Git, and a second daemon with a source of the same name). Last, some clusters
// are locked and changed in Git: until the next quiet point no write may reach them.
//
// Nothing depends on how fast the machine is. Whoever waits, waits for something to happen,
// and gives up only when nothing at all has happened for long (world.until).
//
//	CHAOS_DURATION=60s go test -run TestChaos ./test/chaos   a minute, with a seed that is printed
//	make chaos SEED=42 STEPS=2000                            with the race detector, in the daemon too
//	make chaos DURATION=10m                                  until then, however many steps
//
// Without any of CHAOS_SEED, CHAOS_STEPS and CHAOS_DURATION it is skipped. At the end it
// says what happened how often: steps, traps, faults that really struck, writes by answer.
//
// # Sharpness
//
// A guard that is broken on purpose has to be found. Break one and run
//
//	GOFLAGS=-overlay=/path/to/overlay.json CHAOS_DURATION=60s go test -run TestChaos ./test/chaos
//
// The overlay (go help build) replaces files of the daemon as well, which TestMain builds.
package chaos
