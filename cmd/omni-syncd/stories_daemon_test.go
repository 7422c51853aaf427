package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/omni-syncd/omni-syncd/test/authority"
)

func init() {
	storyCommands["logged"] = cmdLogged
	storyCommands["announce"] = cmdAnnounce
	storyCommands["certificate"] = cmdCertificate
}

// logged FILE PATTERN [COUNT] waits until that many lines (1) of a log that is being
// written match.
func cmdLogged(ts *testscript.TestScript, neg bool, args []string) {
	count := 1

	if len(args) == 3 {
		n, err := strconv.Atoi(args[2])
		ts.Check(err)

		count = n
	} else if neg || len(args) != 2 {
		ts.Fatalf("usage: logged FILE PATTERN [COUNT]")
	}

	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)

	ctx, cancel := waitContext(ts)
	defer cancel()

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()

	for ; ; <-tick.C {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && len(pattern.FindAll(text, -1)) >= count {
			return
		}

		if ctx.Err() != nil {
			ts.Fatalf("%q is not in the log %d times:\n%s", args[1], count, text)
		}
	}
}

// announce STATUS URL SECRET BODY sends a webhook of the generic kind.
func cmdAnnounce(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: announce STATUS URL SECRET BODY")
	}

	mac := hmac.New(sha256.New, []byte(args[2]))
	mac.Write([]byte(args[3]))

	req, err := http.NewRequest(http.MethodPost, args[1], bytes.NewReader([]byte(args[3])))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))

	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	ts.Check(res.Body.Close())

	if got := strconv.Itoa(res.StatusCode); got != args[0] {
		ts.Fatalf("the answer is %s, want %s", got, args[0])
	}
}

// certificate DIR makes ca.pem, server.pem and server.key for a server on 127.0.0.1.
func cmdCertificate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: certificate DIR")
	}

	_, err := authority.New(ts.MkAbs(args[0]))
	ts.Check(err)
}

// freePort returns a port of this machine that nobody listens at.
func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a port: %w", err)
	}

	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return "", err
	}

	return port, listener.Close()
}
