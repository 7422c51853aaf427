package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// More than the bound of a source, or of all together, is refused as a whole.
func TestDeclineMany(t *testing.T) {
	two := []sync.SourceConfig{{Name: "a", MaxDelete: 1, MaxDeleteResources: 1}, {Name: "b", MaxDelete: 2, MaxDeleteResources: 1}}
	cluster := func(source, name string) deletion {
		return deletion{source: source, cluster: true, name: "Cluster " + name, short: name}
	}
	class := deletion{source: "a", name: "MachineClass x", short: "MachineClass/x"}

	for name, test := range map[string]struct {
		found  []deletion
		open   int
		reason string
	}{
		"within":                {[]deletion{cluster("a", "x"), cluster("b", "y"), class}, 3, ""},
		"too many of a source":  {[]deletion{cluster("a", "x"), cluster("a", "y"), class}, 0, "2 clusters would be deleted, and --max-delete allows 1: x, y"},
		"too many together":     {[]deletion{cluster("a", "x"), cluster("b", "y"), cluster("b", "z")}, 0, "3 clusters would be deleted, and --max-delete allows 2: x, y, z"},
		"too many resources":    {[]deletion{class, class, cluster("a", "x")}, 0, "2 fleet resources would be deleted, and --max-delete-resources allows 1"},
		"declined ones are not": {[]deletion{cluster("a", "x"), {source: "a", cluster: true, short: "y", declined: "it is locked"}}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := &deletions{found: test.found}
			d.declineMany(two)

			if got := len(d.open()); got != test.open {
				t.Errorf("%d may go, want %d", got, test.open)
			}

			if !strings.Contains(d.found[0].declined, test.reason) {
				t.Errorf("the reason is %q, want %q", d.found[0].declined, test.reason)
			}
		})
	}
}

func TestQuestion(t *testing.T) {
	d := &deletions{found: []deletion{
		{cluster: true, short: "a"}, {cluster: true, short: "b"}, {short: "MachineClass/x"}, {short: "MachineClass/y", declined: "no"},
	}}

	if got, want := d.question(), "Delete 2 clusters and 1 fleet resource: a, b, MachineClass/x? [y/N] "; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAskYes(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES \n": true, "y": true, "\n": false, "": false, "n\n": false, "yeah\n": false} {
		if got, err := askYes(t.Context(), strings.NewReader(answer)); got != want || err != nil {
			t.Errorf("%q: %t, %v", answer, got, err)
		}
	}
}

// A watch on a terminal counts down by itself: the daemon says nothing while nothing changes.
func TestView_CountsDown(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	v := newView(&v1.ListClustersRequest{})
	v.take(&v1.WatchStatusResponse{Clusters: []*v1.Cluster{
		{Source: "s", Name: "a", Message: "leaving: destroyed in 5m (removed in 3f2a1c); put the template back", LeavingTime: timestamppb.New(now.Add(100 * time.Second))},
		{Source: "s", Name: "b", Message: "kept"},
		{Source: "s", Name: "c", Message: "leaving the cluster: MachineSet c-x; removed in 5m; put back what left", LeavingTime: timestamppb.New(now.Add(time.Minute))},
	}})

	targets := v.statusAt(now).Targets
	if got, want := targets[0].Message, "leaving: destroyed in 1m40s (removed in 3f2a1c); put the template back"; got != want {
		t.Errorf("%q, want %q", got, want)
	}

	if got := v.statusAt(now.Add(time.Hour)).Targets[0].Message; !strings.HasPrefix(got, "leaving: destroyed in 0s ") {
		t.Errorf("after its time: %q", got)
	}

	if got, want := targets[2].Message, "leaving the cluster: MachineSet c-x; removed in 1m0s; put back what left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}

	if targets[1].Message != "kept" || !v.countsDown() {
		t.Errorf("%+v", targets[1])
	}
}
