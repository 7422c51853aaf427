//go:build race

package chaos

// buildFlags give the daemon the race detector that the test itself has.
var buildFlags = []string{"-race"}
