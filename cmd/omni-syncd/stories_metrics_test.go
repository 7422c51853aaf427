package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func init() { storyCommands["answers"] = cmdAnswers }

// answers STATUS URL [PATTERN...] asks until the answer has that status and every pattern
// matches a part of it. Nobody who listens yet is no answer.
func cmdAnswers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: answers STATUS URL [PATTERN...]")
	}

	var patterns []*regexp.Regexp

	for _, arg := range args[2:] {
		pattern, err := regexp.Compile("(?m)" + expand(ts, arg))
		ts.Check(err)

		patterns = append(patterns, pattern)
	}

	ctx, cancel := waitContext(ts)
	defer cancel()

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()

	for last := ""; ; <-tick.C {
		wrong := ask(ctx, args[1], args[0], patterns)

		switch {
		case wrong == "":
			return
		case ctx.Err() != nil:
			ts.Fatalf("%s: %s", args[1], last)
		}

		last = wrong
	}
}

// ask asks once and returns what is wrong with the answer.
func ask(ctx context.Context, url, status string, patterns []*regexp.Regexp) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}

	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close() //nolint:errcheck // only read from

	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}

	if got := strconv.Itoa(res.StatusCode); got != status {
		return fmt.Sprintf("the answer is %s, want %s:\n%s", got, status, body)
	}

	for _, pattern := range patterns {
		if !pattern.Match(body) {
			return fmt.Sprintf("%q is not in\n%s", pattern, body)
		}
	}

	return ""
}
