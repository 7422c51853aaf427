package api

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cosi-project/runtime/pkg/resource"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/history"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// Bounds of an answer (G12).
const (
	maxText     = 8 << 10 // bytes
	maxPlan     = 1 << 20 // bytes
	maxProblems = 100
	maxNotes    = 1000
)

var syncStates = map[sync.SyncStatus]v1.SyncState{
	sync.Synced: v1.SyncState_SYNC_STATE_SYNCED, sync.OutOfSync: v1.SyncState_SYNC_STATE_OUT_OF_SYNC, sync.Unknown: v1.SyncState_SYNC_STATE_UNKNOWN,
}

var healths = map[sync.Health]v1.Health{
	sync.Healthy: v1.Health_HEALTH_HEALTHY, sync.Progressing: v1.Health_HEALTH_PROGRESSING, sync.Degraded: v1.Health_HEALTH_DEGRADED,
	sync.Missing: v1.Health_HEALTH_MISSING, sync.HealthUnknown: v1.Health_HEALTH_UNKNOWN,
}

var operations = map[sync.Operation]v1.Operation{
	sync.Running: v1.Operation_OPERATION_RUNNING, sync.Succeeded: v1.Operation_OPERATION_SUCCEEDED, sync.Failed: v1.Operation_OPERATION_FAILED,
}

var outcomes = map[history.Outcome]v1.Outcome{
	history.Succeeded: v1.Outcome_OUTCOME_SUCCEEDED, history.Failed: v1.Outcome_OUTCOME_FAILED, history.Held: v1.Outcome_OUTCOME_HELD,
	history.Superseded: v1.Outcome_OUTCOME_SUPERSEDED, history.Interrupted: v1.Outcome_OUTCOME_INTERRUPTED,
}

func sourceOf(s *sync.SourceStatus) *v1.Source {
	source := &v1.Source{
		Name: text(s.Name), Fetched: s.Fetched, Revision: text(s.Revision), Error: text(s.Error),
		LastPollTime: timestamp(s.LastPoll), NextPollTime: timestamp(s.NextPoll), Suspension: suspensionOf(s.Suspension),
	}

	for i, problem := range s.Problems {
		if i == maxProblems {
			source.ProblemsOmitted = int32(len(s.Problems) - maxProblems)

			break
		}

		source.Problems = append(source.Problems, text(problem.Error()))
	}

	return source
}

func sourcesOf(all []sync.SourceStatus) []*v1.Source {
	sources := make([]*v1.Source, len(all))
	for i := range all {
		sources[i] = sourceOf(&all[i])
	}

	return sources
}

func clusterOf(t *sync.TargetStatus) *v1.Cluster {
	return &v1.Cluster{
		Source: text(t.Source), Name: text(t.Target), Path: text(t.Path), Revision: text(t.Revision),
		Sync: syncStates[t.Sync], Health: healths[t.Health], HealthReason: text(t.HealthReason), HealthSinceTime: timestamp(t.HealthSince),
		Operation: operations[t.Operation], Message: text(t.MessageAt(time.Now())), LeavingTime: timestamp(t.Leaving.At), SinceTime: timestamp(t.Since), TeardownSinceTime: timestamp(t.TeardownSince),
		Done: int32(t.Done), Total: int32(t.Total), Settled: t.Settled, Plan: countsOf(t.Plan),
		Suspension: suspensionOf(t.Suspension),
	}
}

func suspensionOf(s *sync.Suspension) *v1.Suspension {
	if s == nil {
		return nil
	}

	return &v1.Suspension{By: text(s.By), Reason: text(s.Reason), SinceTime: timestamp(s.Since)}
}

func clustersOf(all []sync.TargetStatus) []*v1.Cluster {
	clusters := make([]*v1.Cluster, len(all))
	for i := range all {
		clusters[i] = clusterOf(&all[i])
	}

	return clusters
}

func countsOf(p *diff.Plan) *v1.PlanCounts {
	if p == nil {
		return nil
	}

	return &v1.PlanCounts{
		Summary: p.Summary(),
		Create:  int32(p.Count(diff.Create)), Adopt: int32(p.Count(diff.Adopt)), Update: int32(p.Count(diff.Update)),
		Release: int32(p.Count(diff.Release)), Destroy: int32(p.Count(diff.Destroy)),
		Waiting: int32(len(p.Waiting)), Conflicts: int32(len(p.Conflicts)), Foreign: int32(len(p.Foreign)), Kept: int32(len(p.Kept())),
		Leaving: int32(len(p.Left) - len(p.Kept())),
		Locked:  p.Locked, Removed: p.Removed,
	}
}

// planOf returns a plan; secrets are masked.
func planOf(t *sync.TargetStatus) (*v1.GetPlanResponse, error) {
	var out strings.Builder
	if err := diff.WriteText(&out, t.Plan, diff.TextOptions{Path: t.Path}); err != nil {
		return nil, err
	}

	plan := &v1.GetPlanResponse{Cluster: clusterOf(t), Text: cut(strings.ToValidUTF8(out.String(), "\uFFFD"), maxPlan)}

	left := maxPlan

	changes := t.Plan.WithoutMarks().Changes
	for i := range changes[:min(len(changes), maxNotes)] {
		change, err := changeOf(&changes[i], left)
		if err != nil {
			return nil, err
		}

		left -= len(change.GetDiff())
		plan.Changes = append(plan.Changes, change)
	}

	for _, w := range t.Plan.Waiting[:min(len(t.Plan.Waiting), maxNotes)] {
		plan.Waiting = append(plan.Waiting, noteOf(w.Resource, w.Reason))
	}

	for _, c := range t.Plan.Conflicts[:min(len(t.Plan.Conflicts), maxNotes)] {
		plan.Conflicts = append(plan.Conflicts, noteOf(c.Resource, c.Reason))
	}

	for _, r := range t.Plan.Foreign[:min(len(t.Plan.Foreign), maxNotes)] {
		plan.Foreign = append(plan.Foreign, noteOf(r, ""))
	}

	return plan, nil
}

// changeOf returns a change with its diff, if that has up to left bytes.
func changeOf(c *diff.Change, left int) (*v1.PlanChange, error) {
	md := c.Metadata()
	change := &v1.PlanChange{Action: string(c.Action), Kind: text(diff.Kind(md.Type())), Id: text(md.ID()), Line: text(c.Line())}

	if c.Action == diff.Adopt {
		return change, nil
	}

	unified, err := diff.Unified(c)
	if err == nil && len(unified) <= left {
		change.Diff = strings.ToValidUTF8(unified, "\uFFFD")
	}

	return change, err
}

func noteOf(r resource.Resource, reason string) *v1.ResourceNote {
	return &v1.ResourceNote{Kind: text(diff.Kind(r.Metadata().Type())), Id: text(r.Metadata().ID()), Reason: text(reason)}
}

func entryOf(e *history.Entry) *v1.HistoryEntry {
	entry := &v1.HistoryEntry{
		Source: text(e.Source), Cluster: text(e.Cluster), Revision: text(e.Revision), Author: text(e.Author), Message: text(e.Message), Reason: text(e.Reason),
		StartTime: timestamp(e.Started), EndTime: timestamp(e.Ended), Outcome: outcomes[e.Outcome], Error: text(e.Error), Omitted: int32(e.Omitted),
	}

	for _, op := range e.Operations {
		entry.Operations = append(entry.Operations, &v1.HistoryOperation{Action: text(op.Action), Resource: text(op.Resource), Change: text(op.Change)})
	}

	return entry
}

// timestamp returns nil for the zero time.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}

	return timestamppb.New(t)
}

// text makes a string fit for a message. One that is not UTF-8, such as the name of a file,
// would spoil the whole answer.
func text(s string) string { return cut(strings.ToValidUTF8(s, "\uFFFD"), maxText) }

// cut shortens valid UTF-8 to a number of bytes, and a "…".
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}

	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}

	return s[:limit] + "…"
}
