package history_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/omni-syncd/omni-syncd/pkg/history"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, cfg history.Config) *history.Store {
	t.Helper()

	s := history.Open(cfg)
	t.Cleanup(s.Close)

	return s
}

// reopened closes a store, which writes what is pending, and opens it again.
func reopened(t *testing.T, s *history.Store) *history.Store {
	t.Helper()

	s.Close()

	return open(t, s.Config)
}

func entry(cluster string, minute int) history.Entry {
	return history.Entry{
		Source: "fleet", Cluster: cluster, Revision: fmt.Sprint("main@sha1:", minute), Author: "Jane <jane@example.com>", Message: "Upgrade",
		Reason: "new revision", Started: noon, Ended: noon.Add(time.Duration(minute) * time.Minute), Outcome: history.Succeeded,
		Operations: []history.Operation{{Action: "update", Resource: "Cluster " + cluster, Change: "spec.kubernetesversion: 1.34.3 → 1.35.0"}},
	}
}

func of(t *testing.T, s *history.Store, cluster string) []history.Entry {
	t.Helper()

	got, err := s.Of("fleet", cluster, 1000)
	if err != nil {
		t.Fatal(err)
	}

	return got
}

func TestStore_SurvivesRestart(t *testing.T) {
	s := open(t, history.Config{Path: filepath.Join(t.TempDir(), "state", "history.db")})
	s.Add(entry("a", 1))
	s.Add(entry("b", 2))
	s.Add(entry("a", 3))
	s = reopened(t, s)

	if d := cmp.Diff([]history.Entry{entry("a", 3), entry("a", 1)}, of(t, s, "a")); d != "" {
		t.Error(d)
	}

	if got := of(t, s, "nobody"); got != nil {
		t.Errorf("of a cluster without a history: %v", got)
	}

	if one, err := s.Of("fleet", "a", 1); err != nil || len(one) != 1 || one[0].Revision != "main@sha1:3" {
		t.Errorf("the newest one: %v, %v", one, err)
	}
}

// G12: neither a cluster that changes all the time nor many clusters fill the disk, and
// the one does not push out the history of the others.
func TestG12_Bounded(t *testing.T) {
	s := open(t, history.Config{Path: filepath.Join(t.TempDir(), "history.db"), PerTarget: 3, Targets: 2})

	s.Add(entry("quiet", 0))

	for n := range 20 {
		s.Add(entry("busy", n+1))
	}

	s = reopened(t, s)

	var revisions []string
	for _, e := range of(t, s, "busy") {
		revisions = append(revisions, e.Revision)
	}

	if d := cmp.Diff([]string{"main@sha1:20", "main@sha1:19", "main@sha1:18"}, revisions); d != "" {
		t.Error(d)
	}

	if len(of(t, s, "quiet")) != 1 {
		t.Error("a busy cluster pushed out the history of a quiet one")
	}

	long := entry("third", 30)
	long.Error = strings.Repeat("x", 1<<20)
	s.Add(long)
	s = reopened(t, s)

	if len(of(t, s, "quiet")) != 0 || len(of(t, s, "busy")) == 0 || len(of(t, s, "third")) != 1 {
		t.Error("over the bound the target has to go that changed least recently")
	}

	if n := len(of(t, s, "third")[0].Error); n > 5000 {
		t.Errorf("an error of %d bytes is kept", n)
	}
}

// What was added before the end is there after it.
func TestRun_WritesWhatIsPending(t *testing.T) {
	s := open(t, history.Config{Path: filepath.Join(t.TempDir(), "history.db")})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})

	go func() {
		defer close(done)

		s.Run(ctx)
	}()

	for n := range 50 {
		s.Add(entry("a", n))
	}

	cancel()

	<-done

	s = open(t, s.Config)

	if got := len(of(t, s, "a")); got != 50 {
		t.Errorf("%d of 50 entries were written", got)
	}
}
