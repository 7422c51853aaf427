package main

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// Bounds of the line that `systemctl status` shows (G12). systemd drops messages of more
// than 4096 bytes; people read less.
const (
	maxStatus = 1000
	maxReason = 300
)

// waitsFor says why the daemon is not ready, in the sense of /readyz: Omni was not read, or
// a source has not answered yet, well or not. It returns nil when it is.
func waitsFor(status sync.Status, snapshot error) error {
	if snapshot != nil {
		return snapshot
	}

	var missing []string

	for i := range status.Sources {
		if !status.Sources[i].Fetched {
			missing = append(missing, status.Sources[i].Name)
		}
	}

	switch n := len(missing); n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("waiting for the first answer of the source %s", missing[0])
	default:
		return fmt.Errorf("waiting for the first answer of the source %s and %d more", missing[0], n-1)
	}
}

// fleetLine says how the fleet is: "12 clusters: 11 synced, 1 out of sync; 10 healthy,
// 2 progressing".
func fleetLine(status sync.Status) string {
	syncs, healths := map[sync.SyncStatus]int{}, map[sync.Health]int{}
	clusters, suspended, unsynced, faulty := 0, 0, 0, 0

	for i := range status.Targets {
		t := &status.Targets[i]

		switch {
		case t.Target != "":
			clusters++
			syncs[t.Sync]++
			healths[t.Health]++

			if t.Suspension != nil {
				suspended++
			}
		case t.Sync != sync.Synced:
			unsynced++
		}
	}

	for i := range status.Sources {
		if src := &status.Sources[i]; src.Error != "" || len(src.Problems) > 0 {
			faulty++
		}
	}

	line := "no clusters"

	if clusters > 0 {
		line = plural(clusters, "cluster") + ": " + listed(
			amount{syncs[sync.Synced], "synced"}, amount{syncs[sync.OutOfSync], "out of sync"}, amount{syncs[sync.Unknown], "unknown"}, amount{suspended, "suspended"})

		if health := listed(
			amount{healths[sync.Healthy], "healthy"}, amount{healths[sync.Progressing], "progressing"}, amount{healths[sync.Degraded], "degraded"},
			amount{healths[sync.Missing], "missing"}, amount{healths[sync.HealthUnknown], "of unknown health"},
		); health != "" {
			line += "; " + health
		}
	}

	if unsynced > 0 {
		line += fmt.Sprintf("; fleet resources of %s not synced", plural(unsynced, "source"))
	}

	if faulty > 0 {
		line += fmt.Sprintf("; errors in %d of %s", faulty, plural(len(status.Sources), "source"))
	}

	return line
}

type amount struct {
	n    int
	what string
}

// listed leaves out what there is nothing of.
func listed(amounts ...amount) string {
	var parts []string

	for _, a := range amounts {
		if a.n > 0 {
			parts = append(parts, fmt.Sprint(a.n, " ", a.what))
		}
	}

	return strings.Join(parts, ", ")
}

// bounded makes a text one line of at most so many bytes. A line end in it, out of an error
// of somebody else's server, would begin another message to systemd: READY=1, or worse.
func bounded(text string, most int) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}

		return ' '
	}, strings.ToValidUTF8(text, ""))), " ")

	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}

	return text
}
