package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal of 60 columns. What is written to the second file is read from the first.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()

	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminal here: ", err)
	}

	t.Cleanup(func() { master.Close() }) //nolint:errcheck // nothing is lost

	fd := int(master.Fd())

	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}

	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: 60, Row: 20})
	}

	if err != nil {
		t.Fatal(err)
	}

	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}

	return master, slave
}

// TestValidateOnTerminal: who looks at a terminal sees the line and a caret, in colour unless NO_COLOR is set.
func TestValidateOnTerminal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(file, []byte("kind: Cluster\nkuberntes: {version: v1.34.3}"+strings.Repeat(" ", 80)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	for name, tt := range map[string]struct {
		env, color string
	}{
		"colour":   {"", "\x1b[1;31m^\x1b[0m"},
		"NO_COLOR": {"1", "\n    | ^"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TERM", "xterm")

			if tt.env != "" {
				t.Setenv("NO_COLOR", tt.env)
			} else if _, set := os.LookupEnv("NO_COLOR"); set {
				t.Skip("NO_COLOR is set")
			}

			master, slave := terminal(t)

			var stderr bytes.Buffer
			if code := execute(context.Background(), []string{"validate", file}, nil, slave, &stderr); code != 1 {
				t.Fatalf("exit code %d: %s", code, stderr.String())
			}

			// With nobody at the other end the rest can be read, and then there is an error.
			if err := slave.Close(); err != nil {
				t.Fatal(err)
			}

			out, err := io.ReadAll(master)
			if !errors.Is(err, unix.EIO) {
				t.Fatal(err)
			}

			// A terminal answers a line feed with a carriage return.
			got := strings.ReplaceAll(string(out), "\r\n", "\n")
			if !strings.Contains(got, tt.color) || !strings.Contains(got, "kuberntes: {version: v1.34.3}") || tt.env != "" && strings.Contains(got, "\x1b") {
				t.Errorf("got %q, want %q in it", got, tt.color)
			}

			for row := range strings.Lines(got) {
				if strings.Contains(row, " | ") && len([]rune(strings.TrimRight(row, "\n"))) > 60+len("\x1b[2m\x1b[0m\x1b[1;31m\x1b[0m") {
					t.Errorf("a row is longer than the terminal: %q", row)
				}
			}
		})
	}
}
