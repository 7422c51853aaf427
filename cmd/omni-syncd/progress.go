package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	engine "github.com/omni-syncd/omni-syncd/pkg/sync"
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

	return isTerminal(stream) && !noColor && os.Getenv("TERM") != "dumb"
}

// console is stderr: log lines, and on a terminal one line at the bottom that is drawn
// over and over. It keeps the two apart.
type console struct {
	w        io.Writer
	terminal bool

	mu    sync.Mutex
	drawn bool
}

func newConsole(w io.Writer) *console { return &console{w: w, terminal: isTerminal(w)} }

// consoleOf returns the console of a command: [execute] gives every command one.
func consoleOf(cmd *cobra.Command) *console {
	if c, ok := cmd.ErrOrStderr().(*console); ok {
		return c
	}

	return newConsole(cmd.ErrOrStderr())
}

// Write implements io.Writer for everything but progress.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.erase()

	return c.w.Write(p)
}

// draw shows a line until the next write or draw, cut to the width of the terminal.
func (c *console) draw(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.erase()
	fmt.Fprint(c.w, fit(line, c.width()))

	c.drawn = line != ""
}

func (c *console) erase() {
	if c.drawn {
		fmt.Fprint(c.w, "\r\x1b[K")

		c.drawn = false
	}
}

func (c *console) width() int {
	if file, ok := c.w.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
	}

	return 80
}

// fit cuts a line so that the terminal does not wrap it.
func fit(line string, width int) string {
	if runes := []rune(line); len(runes) >= width {
		return string(runes[:max(width-2, 0)]) + "…"
	}

	return line
}

// whileShowing shows progress until hide is called; then nothing of it is drawn any more.
func whileShowing(ctx context.Context, c *console, current func() (step, detail string)) (hide func()) {
	ctx, stop := context.WithCancel(ctx)
	gone := make(chan struct{})

	go func() {
		defer close(gone)
		showProgress(ctx, c, current)
	}()

	return func() { stop(); <-gone }
}

// showProgress tells what the program is doing until ctx ends: on a terminal one line
// that is drawn over and over, elsewhere one line per step. Work of less than a second
// shows nothing. current returns the step and how far it is.
func showProgress(ctx context.Context, c *console, current func() (step, detail string)) {
	ticker := time.NewTicker(quiet / 5)
	defer ticker.Stop()

	var (
		step, told string
		since      = time.Now()
	)

	for {
		select {
		case <-ctx.Done():
			c.draw("")

			return
		case <-ticker.C:
		}

		now, detail := current()
		if now != step {
			step, since = now, time.Now()
		}

		switch {
		case step == "" || time.Since(since) < quiet:
		case c.terminal:
			c.draw(strings.TrimSpace(step + " " + detail))
		case told != step:
			told = step
			fmt.Fprintln(c, step)
		}
	}
}

// engineProgress describes what an engine that works off one revision is doing.
type engineProgress struct {
	fetch    atomic.Pointer[string]
	snapshot *omni.Snapshot
	engine   *engine.Engine
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
