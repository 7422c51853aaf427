package api

import (
	"fmt"
	gosync "sync"

	"connectrpc.com/connect"
)

// places are those for streams and waiting calls.
type places struct {
	limit int

	mu       gosync.Mutex
	local    int
	remote   int
	byCaller map[string]int
}

func newPlaces(limit int) *places { return &places{limit: limit, byCaller: map[string]int{}} }

// take takes a place, of those for the socket or those for the network.
func (p *places) take(local bool, caller string) (release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	used := &p.remote
	if local {
		used = &p.local
	}

	switch {
	case *used >= p.limit:
		return nil, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("there are %d streams and waiting calls already; try again when one has ended", p.limit))
	case !local && p.byCaller[caller] >= MaxCallerStreams:
		return nil, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("you have %d streams and waiting calls already; try again when one has ended", MaxCallerStreams))
	}

	*used++

	if !local {
		p.byCaller[caller]++
	}

	return gosync.OnceFunc(func() { p.leave(used, local, caller) }), nil
}

func (p *places) leave(used *int, local bool, caller string) {
	p.mu.Lock()
	defer p.mu.Unlock()

	*used--

	if local {
		return
	}

	if p.byCaller[caller]--; p.byCaller[caller] == 0 {
		delete(p.byCaller, caller)
	}
}
