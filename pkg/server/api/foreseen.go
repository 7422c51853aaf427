package api

import (
	gosync "sync"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// maxForeseen is for how many plans the consequences are kept.
const maxForeseen = 1000

// foreseen are the consequences of plans. They take long to find, so they are kept until a
// target has another plan.
type foreseen struct {
	mu     gosync.Mutex
	byPlan map[*diff.Plan][]diff.Consequence
}

// of says what the plan of a target does. The plan of a cluster says nothing of others, also where a
// machine moves to one: not everybody may know of them. That of fleet resources is for callers who
// may see every cluster.
func (f *foreseen) of(engine Engine, t *sync.TargetStatus) []diff.Consequence {
	f.mu.Lock()
	kept, ok := f.byPlan[t.Plan]
	f.mu.Unlock()

	if ok {
		return kept
	}

	evidence := engine.Evidence(t.Key)
	found := diff.Consequences(t.Plan, diff.Scene{Live: evidence.Live, Desired: evidence.Desired, Whole: evidence.Whole})

	f.mu.Lock()
	defer f.mu.Unlock()

	if f.byPlan == nil || len(f.byPlan) >= maxForeseen {
		f.byPlan = map[*diff.Plan][]diff.Consequence{}
	}

	f.byPlan[t.Plan] = found

	return found
}
