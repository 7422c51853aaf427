package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// quiet is how long work may take before it is talked about.
const quiet = time.Second

// isTerminal reports whether a stream is one that a person looks at.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)

	return ok && term.IsTerminal(int(file.Fd()))
}

// useColor follows https://no-color.org besides the terminal.
func useColor(stream any) bool {
	_, noColor := os.LookupEnv("NO_COLOR")

	return isTerminal(stream) && !noColor
}

// showProgress tells w what the program is doing until ctx ends: on a terminal one line
// that is drawn over and over, elsewhere one line per step. Work of less than a second
// shows nothing. current returns the step and how far it is.
func showProgress(ctx context.Context, w io.Writer, terminal bool, current func() (step, detail string)) {
	ticker := time.NewTicker(quiet / 5)

	defer ticker.Stop()

	var (
		shown string
		since = time.Now()
		last  string
	)

	for {
		select {
		case <-ctx.Done():
			if terminal && shown != "" {
				fmt.Fprint(w, "\r\x1b[K")
			}

			return
		case <-ticker.C:
		}

		step, detail := current()
		if step != last {
			last, since = step, time.Now()
		}

		if step == "" || time.Since(since) < quiet {
			continue
		}

		switch {
		case terminal:
			shown = step + " " + detail
			fmt.Fprintf(w, "\r\x1b[K%s", shown)
		case shown != step:
			shown = step
			fmt.Fprintln(w, step)
		}
	}
}

// engineProgress describes what an engine that works off one revision is doing.
type engineProgress struct {
	fetch    atomic.Pointer[string]
	snapshot *omni.Snapshot
	engine   *sync.Engine
}

// fetching takes what a source says about its download.
func (p *engineProgress) fetching(text string) { p.fetch.Store(&text) }

func (p *engineProgress) current() (step, detail string) {
	status, _ := p.engine.Status()

	for i := range status.Sources {
		if src := &status.Sources[i]; !src.Fetched {
			if text := p.fetch.Load(); text != nil {
				detail = *text
			}

			return "fetching " + src.Name, detail
		}
	}

	if !p.snapshot.Ready() {
		done, total := p.snapshot.Progress()

		return "reading Omni", fmt.Sprintf("%d/%d kinds of resources", done, total)
	}

	var done, total, settled int

	waiting := ""

	for i := range status.Targets {
		t := &status.Targets[i]
		done, total = done+t.Done, total+t.Total

		if t.Settled {
			settled++
		} else if t.Done == t.Total {
			waiting = t.Target + ": " + t.Message
		}
	}

	switch {
	case settled == len(status.Targets):
		return "", ""
	case done < total:
		return "applying", fmt.Sprintf("%d/%d writes, %d/%d targets done", done, total, settled, len(status.Targets))
	default:
		return "waiting for " + waiting, ""
	}
}
