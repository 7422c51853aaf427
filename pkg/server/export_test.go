package server

// For the tests.
const (
	MaxConns     = maxConns
	MaxHostConns = maxHostConns
)

var HostOf = hostOf
