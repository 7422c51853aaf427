package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// The words that the tables of every verb use.
var (
	syncWords = map[v1.SyncState]sync.SyncStatus{
		v1.SyncState_SYNC_STATE_SYNCED: sync.Synced, v1.SyncState_SYNC_STATE_OUT_OF_SYNC: sync.OutOfSync, v1.SyncState_SYNC_STATE_UNKNOWN: sync.Unknown,
	}
	healthWords = map[v1.Health]sync.Health{
		v1.Health_HEALTH_HEALTHY: sync.Healthy, v1.Health_HEALTH_PROGRESSING: sync.Progressing, v1.Health_HEALTH_DEGRADED: sync.Degraded,
		v1.Health_HEALTH_MISSING: sync.Missing, v1.Health_HEALTH_UNKNOWN: sync.HealthUnknown,
	}
	operationWords = map[v1.Operation]sync.Operation{
		v1.Operation_OPERATION_RUNNING: sync.Running, v1.Operation_OPERATION_SUCCEEDED: sync.Succeeded, v1.Operation_OPERATION_FAILED: sync.Failed,
	}
)

// statusOf turns what the daemon tells into what the tables are made of.
func statusOf(sources []*v1.Source, clusters []*v1.Cluster) sync.Status {
	var status sync.Status

	for _, src := range sources {
		status.Sources = append(status.Sources, sync.SourceStatus{Name: src.GetName(), Fetched: src.GetFetched(), Error: src.GetError()})
	}

	for _, c := range clusters {
		message := c.GetMessage()
		if s := c.GetSuspension(); s != nil && !strings.Contains(message, "suspended by ") {
			message = "suspended by " + s.GetBy() + prefixed(": ", s.GetReason()) + prefixed("; ", message)
		}

		status.Targets = append(status.Targets, sync.TargetStatus{
			Key: sync.Key{Source: c.GetSource(), Target: c.GetName()}, Path: c.GetPath(), Revision: oneLine(c.GetRevision()),
			Sync: syncWords[c.GetSync()], Health: healthWords[c.GetHealth()], HealthReason: oneLine(c.GetHealthReason()),
			Message: oneLine(message), Settled: c.GetSettled(),
		})
	}

	return status
}

// oneLine makes a text fit for a cell of a table.
func oneLine(text string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(printable(text))
}

// watchStatus shows changes until the daemon or the person ends. On a terminal the table
// is drawn over and over; elsewhere what changed follows, and with a format one document
// per message of the daemon.
func watchStatus(cmd *cobra.Command, c *client, only *v1.ListClustersRequest, format string) error {
	stream, err := c.WatchStatus(cmd.Context(), connect.NewRequest(&v1.WatchStatusRequest{}))
	if err != nil {
		return err
	}
	defer stream.Close() //nolint:errcheck // its end is the end of the command

	shown := newView(only)
	out := cmd.OutOrStdout()

	if format == "" && isTerminal(out) {
		return shown.draw(cmd.Context(), out, stream)
	}

	for first := true; stream.Receive(); first = false {
		changed := shown.take(stream.Msg())

		switch {
		case format != "":
			data, err := raw(stream.Msg())
			if err != nil {
				return err
			}

			if format == "yaml" && !first {
				fmt.Fprintln(out, "---")
			}

			if err := writeRaw(out, format, data); err != nil {
				return err
			}
		default:
			if len(changed) > 0 {
				if err := writeTable(out, statusOf(shown.sourceList(), changed)); err != nil {
					return err
				}
			}

			for _, gone := range stream.Msg().GetRemovedClusters() {
				if shown.wanted(gone.GetSource(), gone.GetName()) {
					fmt.Fprintf(out, "%s is gone\n", oneLine(cmp.Or(gone.GetName(), "(fleet resources)")))
				}
			}
		}
	}

	return stream.Err()
}

// draw shows the table on a terminal. It redraws it with every message, and once a second while something counts down.
func (v *view) draw(ctx context.Context, out io.Writer, stream *connect.ServerStreamForClient[v1.WatchStatusResponse]) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()

	messages := make(chan *v1.WatchStatusResponse)

	go func() {
		defer close(messages)

		for stream.Receive() {
			select {
			case messages <- stream.Msg():
			case <-ctx.Done():
				return
			}
		}
	}()

	second := time.NewTicker(time.Second)
	defer second.Stop()

	for {
		select {
		case msg, ok := <-messages:
			if !ok {
				return stream.Err()
			}

			v.take(msg)
		case <-second.C:
			if !v.countsDown() {
				continue
			}
		}

		fmt.Fprint(out, "\x1b[H\x1b[2J")

		if err := writeTable(out, v.statusAt(time.Now())); err != nil {
			return err
		}
	}
}

// view is what a watch has told so far, of the clusters that are wanted.
type view struct {
	only     *v1.ListClustersRequest
	sources  map[string]*v1.Source
	clusters map[sync.Key]*v1.Cluster
}

func newView(only *v1.ListClustersRequest) *view {
	return &view{only: only, sources: map[string]*v1.Source{}, clusters: map[sync.Key]*v1.Cluster{}}
}

func (v *view) wanted(source, cluster string) bool {
	return (v.only.GetSource() == "" || v.only.GetSource() == source) && (v.only.Cluster == nil || v.only.GetCluster() == cluster)
}

// take adds a message and returns the wanted clusters in it.
func (v *view) take(msg *v1.WatchStatusResponse) (changed []*v1.Cluster) {
	if msg.GetAll() {
		clear(v.sources)
		clear(v.clusters)
	}

	for _, name := range msg.GetRemovedSources() {
		delete(v.sources, name)
	}

	for _, gone := range msg.GetRemovedClusters() {
		delete(v.clusters, sync.Key{Source: gone.GetSource(), Target: gone.GetName()})
	}

	for _, src := range msg.GetSources() {
		v.sources[src.GetName()] = src
	}

	for _, c := range msg.GetClusters() {
		if v.wanted(c.GetSource(), c.GetName()) {
			v.clusters[sync.Key{Source: c.GetSource(), Target: c.GetName()}] = c
			changed = append(changed, c)
		}
	}

	return changed
}

func (v *view) sourceList() []*v1.Source {
	return slices.SortedFunc(maps.Values(v.sources), func(a, b *v1.Source) int { return cmp.Compare(a.GetName(), b.GetName()) })
}

func (v *view) status() sync.Status {
	return statusOf(v.sourceList(), slices.SortedFunc(maps.Values(v.clusters), func(a, b *v1.Cluster) int {
		return cmp.Or(cmp.Compare(a.GetSource(), b.GetSource()), cmp.Compare(a.GetName(), b.GetName()))
	}))
}

func (v *view) countsDown() bool {
	for _, c := range v.clusters {
		if c.GetLeavingTime() != nil {
			return true
		}
	}

	return false
}

// countdown is the part of a message that is out of date a second later.
var countdown = regexp.MustCompile(`(leaving: destroyed|; removed) in [0-9hms]+`)

// statusAt is the status at a moment: what the daemon said, with the time that is left now.
func (v *view) statusAt(now time.Time) sync.Status {
	status := v.status()

	for i := range status.Targets {
		t := &status.Targets[i]
		if at := v.clusters[t.Key].GetLeavingTime(); at != nil {
			left := max(at.AsTime().Sub(now), 0).Round(time.Second)
			t.Message = countdown.ReplaceAllString(t.Message, "${1} in "+left.String())
		}
	}

	return status
}
