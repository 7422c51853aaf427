package source

import "time"

// Request is one conversation with a Git server, for metrics.
type Request struct {
	// Host is the name of the server, as the URL has it; "" for a repository on this machine.
	Host string
	Kind RequestKind
	// Took includes the time in which the answer was stored.
	Took time.Duration
	// Failed says that it did not succeed. Why is in the error that Fetch returns.
	Failed bool
}

// RequestKind is what a server was asked for.
type RequestKind string

// The kinds of requests.
const (
	// RequestLook asks for the list of refs.
	RequestLook RequestKind = "look"
	// RequestFetch asks for objects.
	RequestFetch RequestKind = "fetch"
)

// observed makes a request and tells Observe how it went.
func (g *Git) observed(kind RequestKind, request func() error) error {
	if g.cfg.Observe == nil {
		return request()
	}

	began := time.Now()
	err := request()
	g.cfg.Observe(Request{Host: g.host, Kind: kind, Took: time.Since(began), Failed: err != nil})

	return err
}
