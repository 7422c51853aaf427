package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Work of less than a second shows nothing; longer work one line a step, or on a
// terminal one line that is drawn over and removed at the end.
func TestShowProgress(t *testing.T) {
	type step struct {
		name string
		took time.Duration
	}

	for _, test := range []struct {
		name     string
		terminal bool
		steps    []step
		want     string
	}{
		{"quick", false, []step{{"fetching", 700 * time.Millisecond}, {"applying", 900 * time.Millisecond}}, ""},
		{"quick terminal", true, []step{{"fetching", 700 * time.Millisecond}}, ""},
		{"slow", false, []step{{"fetching", 3 * time.Second}, {"applying", 500 * time.Millisecond}, {"waiting", 5 * time.Second}}, "fetching\nwaiting\n"},
		{"slow terminal", true, []step{{"fetching", 1500 * time.Millisecond}}, "fetching 1200ms\r\x1b[Kfetching 1400ms\r\x1b[K"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				current := func() (string, string) {
					since := time.Since(start)
					detail := fmt.Sprintf("%dms", since.Milliseconds())

					for _, s := range test.steps {
						if since < s.took {
							return s.name, detail
						}

						since -= s.took
					}

					return "", ""
				}

				var total time.Duration
				for _, s := range test.steps {
					total += s.took
				}

				ctx, cancel := context.WithTimeout(t.Context(), total)
				defer cancel()

				var out strings.Builder

				showProgress(ctx, &console{w: &out, terminal: test.terminal}, current)

				if out.String() != test.want {
					t.Errorf("got %q, want %q", out.String(), test.want)
				}
			})
		})
	}
}

// A log line takes the place of the progress line, and a narrow terminal cuts it.
func TestConsole(t *testing.T) {
	var out strings.Builder

	c := &console{w: &out, terminal: true}
	c.draw(strings.Repeat("x", 100))
	fmt.Fprintln(c, "a line")
	c.draw("fetching")
	c.draw("")

	if want := strings.Repeat("x", 78) + "…\r\x1b[Ka line\nfetching\r\x1b[K"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
