package source

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// GitConfig says what of which repository to follow, and how.
type GitConfig struct {
	// URL is https://…, ssh://user@host[:port]/path, user@host:path, file:///… or a path.
	// http://… is accepted where nothing secret is sent, or to this machine. A URL with
	// credentials in it is refused.
	URL string
	// Ref is what to follow. Zero: the repository's default branch, also when that
	// changes.
	Ref Ref
	// Login proves who we are. Zero: nobody.
	Login Login
	// TLS says whom to trust, for https.
	TLS TLS
	// Proxy is http://…, https:// or socks5://[user@]host:port, for https and for ssh.
	// Empty: for https what HTTPS_PROXY, HTTP_PROXY and NO_PROXY in the environment say, for
	// ssh none. "none": none.
	Proxy string
	// ProxyPasswordFile holds the password of the user in Proxy. With an http:// or socks5://
	// proxy it goes to the proxy in clear text.
	ProxyPasswordFile string
	// Verify is asked about every revision before it is handed out. An error refuses it:
	// Fetch returns a RefusedError, and the last good revision stays. It may be nil. It must
	// not keep what it is given.
	Verify func(Signed) error
	// StateDir is a folder for fetched objects, made if missing. It survives restarts
	// and may be deleted when nothing runs. Only one Git at a time may use it, which a lock
	// sees to. Empty: a temporary folder, which Close removes.
	StateDir string
	// Interval is the time between two looks of Watch, give or take 10%. Zero: 1m, and
	// 1s for a repository on this machine.
	Interval time.Duration
	// Timeout bounds one Fetch. Zero: 5m.
	Timeout time.Duration
	// MaxSize bounds the bytes of one fetch. Zero: DefaultMaxSize.
	MaxSize int64
	// Logger may be nil.
	Logger *zap.Logger
	// Progress is called during a fetch with a short text to show, such as
	// "received 3.1 MiB". It may be nil. It must not block.
	Progress func(text string)
	// Observe is told of every request to the repository's server when it ended, for
	// metrics. It may be nil. It must not block.
	Observe func(Request)
}

// Key tells configurations apart that need a Git each: those with the same Key can share
// one, whose Watch may be called any number of times, and its StateDir. It is 64
// hexadecimal digits, which may name a folder.
//
// Interval (see Git.Hurry), StateDir, Logger, Progress and Observe do not count. Nor does
// Verify, which cannot be compared: only those may share a Git that verify the same.
func (c GitConfig) Key() string {
	data, err := json.Marshal(struct {
		URL                      string
		Ref                      Ref
		Login                    Login
		TLS                      TLS
		Proxy, ProxyPasswordFile string
		Timeout                  time.Duration
		MaxSize                  int64
	}{c.URL, c.Ref, c.Login, c.TLS, c.Proxy, c.ProxyPasswordFile, c.Timeout, c.MaxSize})
	if err != nil {
		panic(err) // strings and numbers
	}

	sum := sha256.Sum256(data)

	return hex.EncodeToString(sum[:])
}

// Signed is what a signature is looked for in.
type Signed struct {
	// Ref is the full name of the ref, or "" if a commit is followed.
	Ref string
	// Commit is the commit object as Git stores it, and CommitID its ID, 40 hexadecimal
	// digits.
	Commit   []byte
	CommitID string
	// Tag is the tag object if the ref is an annotated tag, nil otherwise, and TagID its
	// ID. If that is on another tag, which is on the commit, it is the first one.
	Tag   []byte
	TagID string
	// TagTarget is the ID of what Tag is on: the commit, unless tags are nested.
	TagTarget string
}

// RefusedError is the error of a revision that GitConfig.Verify refused.
type RefusedError struct {
	ID  string // of the revision
	Err error  // what Verify said
}

// Error says which revision was refused and why.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("revision %s is refused: %s; the last good revision stays", clean(e.ID), e.Err)
}

// Unwrap returns what Verify said.
func (e *RefusedError) Unwrap() error { return e.Err }
