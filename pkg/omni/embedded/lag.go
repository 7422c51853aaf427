package embedded

import (
	"context"
	"slices"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
)

// delay hands on the events of one type when their lag is over, in their order. What there is from the start is handed on at once.
func (c *controllers) delay(ctx context.Context, typ resource.Type, in <-chan []state.Event, out chan<- []state.Event) error {
	type late struct {
		batch []state.Event
		due   time.Time
	}

	var (
		queue []late
		timer *time.Timer
		due   <-chan time.Time
	)

	for {
		if timer == nil && len(queue) > 0 {
			timer = time.NewTimer(time.Until(queue[0].due))
			due = timer.C
		}

		select {
		case batch := <-in:
			lag := time.Duration(0)
			if !slices.ContainsFunc(batch, func(event state.Event) bool { return event.Type == state.Bootstrapped }) {
				lag = c.config.Lag(typ)
			}

			queue = append(queue, late{batch, time.Now().Add(lag)}) // the watch must not have to wait for us
		case <-due:
			select {
			case out <- queue[0].batch:
				queue, timer, due = queue[1:], nil, nil
			case <-ctx.Done():
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}
