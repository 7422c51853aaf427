package main

import (
	"net"
	"regexp"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

func init() {
	storyCommands["notify-socket"] = cmdNotifySocket
	storyCommands["hears"] = cmdHears
}

// notifySockets holds the messages of each script's socket.
var notifySockets sync.Map // *testscript.TestScript → chan string

// notify-socket PATH listens there as a service manager does.
func cmdNotifySocket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: notify-socket PATH")
	}

	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: ts.MkAbs(args[0]), Net: "unixgram"})
	ts.Check(err)

	messages := make(chan string, 10_000)
	notifySockets.Store(ts, messages)

	done := make(chan struct{})

	go func() {
		defer close(done)

		buffer := make([]byte, 8192)

		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}

			messages <- string(buffer[:n])
		}
	}()

	ts.Defer(func() {
		_ = conn.Close()
		<-done

		notifySockets.Delete(ts)
	})
}

// hears PATTERN waits for a message that matches. Messages before it may be about the
// status, the watchdog or the time of the start, and about nothing else: the order of
// READY, RELOADING and STOPPING counts.
func cmdHears(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hears PATTERN")
	}

	pattern, err := regexp.Compile(args[0])
	ts.Check(err)

	messages, ok := notifySockets.Load(ts)
	if !ok {
		ts.Fatalf("hears: there is no notify-socket")
	}

	ctx, cancel := waitContext(ts)
	defer cancel()

	for last := ""; ; {
		select {
		case <-ctx.Done():
			ts.Fatalf("%q was not heard; the last message is %q", pattern, last)
		case last = <-messages.(chan string):
			if pattern.MatchString(last) {
				return
			}

			key, _, _ := strings.Cut(last, "=")
			if key != "STATUS" && key != "WATCHDOG" && key != "EXTEND_TIMEOUT_USEC" {
				ts.Fatalf("heard %q, want %q", last, pattern)
			}
		}
	}
}
