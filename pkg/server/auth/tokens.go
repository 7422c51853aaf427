package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// checkEvery is how often the token file is looked at, at most.
	checkEvery = time.Second
	// settledAfter is how old a file has to be before its time of change is trusted: what is
	// written twice within one tick of the file system's clock looks unchanged.
	settledAfter = 3 * time.Second
)

// TokensConfig names the token file.
type TokensConfig struct {
	// File is YAML:
	//
	//	tokens:
	//	  - name: ci
	//	    hash: sha256:…            # `omni-syncd token ci` makes it
	//	    expires: 2027-01-01T00:00:00Z
	//	    grants:
	//	      - role: viewer
	//	        clusters: ["prod-*"]  # left out: everything
	File string
	// Logger may be nil.
	Logger *zap.Logger
}

// Tokens knows the tokens in a file. The file is read again when it changes, at most a
// second later: who is removed from it is unknown with the next request, and may nothing any
// more in a request under way. A file that cannot be used later on leaves the last good one
// in force.
type Tokens struct {
	TokensConfig

	mu      sync.Mutex
	checked time.Time
	info    os.FileInfo // of what was read last; nil if it could not be read
	settled bool
	content [sha256.Size]byte // of what was read last
	problem string            // with what was read last, as it was logged
	known   map[digest]*Token // of the last good file; replaced, never changed
}

// NewTokens reads the file for the first time. A file that cannot be used is an error.
func NewTokens(cfg TokensConfig) (*Tokens, error) {
	cfg.Logger = cmp.Or(cfg.Logger, zap.NewNop())
	t := &Tokens{TokensConfig: cfg, checked: time.Now()}

	if err := t.read(); err != nil {
		return nil, err
	}

	return t, nil
}

// Authenticate implements [Authenticator]. It asks nobody. How long it takes tells nothing
// about a token, because the token is not compared with anything: its digest is looked up.
func (t *Tokens) Authenticate(_ context.Context, token string) (*Caller, error) {
	if len(token) != tokenLength || !strings.HasPrefix(token, tokenPrefix) {
		return nil, ErrUnknown
	}

	sum := digestOf(token)

	entry, ok := t.current()[sum]
	if !ok {
		return nil, ErrUnknown
	}

	caller := &Caller{
		Name: "token " + entry.Name, Expires: entry.Expires, id: "token " + entry.Name,
		how:  "whoever runs omni-syncd can add a grant to the token file",
		held: func() ([]Grant, error) { return t.held(sum) },
	}

	if entry.expired() {
		return nil, &ExpiredError{Name: caller.Name, At: entry.Expires}
	}

	return caller, nil
}

// recall implements recaller.
func (t *Tokens) recall(ctx context.Context, token string) (*Caller, error) {
	return t.Authenticate(ctx, token)
}

// held looks into the file as it is now, not as it was when the request began.
func (t *Tokens) held(sum digest) ([]Grant, error) {
	entry, ok := t.current()[sum]

	switch {
	case !ok:
		return nil, ErrUnknown
	case entry.expired():
		return nil, &ExpiredError{Name: "token " + entry.Name, At: entry.Expires}
	default:
		return entry.Grants, nil
	}
}

func (t *Token) expired() bool { return !t.Expires.IsZero() && !time.Now().Before(t.Expires) }

// current returns what is in force.
func (t *Tokens) current() map[digest]*Token {
	t.mu.Lock()
	defer t.mu.Unlock()

	if time.Since(t.checked) >= checkEvery {
		t.checked = time.Now()
		t.refresh()
	}

	return t.known
}

// refresh reads the file if it seems to have changed. Each new problem is logged once.
func (t *Tokens) refresh() {
	if info, err := os.Stat(t.File); err == nil && t.settled && same(info, t.info) {
		return
	}

	problem := ""

	if err := t.read(); err != nil {
		problem = err.Error()
	}

	if problem != "" && problem != t.problem {
		t.Logger.Error("the token file cannot be used; the tokens that it held before stay in force", zap.String("error", problem))
	}

	t.problem = problem
}

// same tells whether nothing was seen to change. A file that was put in another's place, also by
// moving a link as Kubernetes does, is another one.
func same(a, b os.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// read reads the file and puts it in force.
func (t *Tokens) read() error {
	data, info, err := readRegular(t.File)
	t.info, t.settled = info, info != nil && time.Since(info.ModTime()) > settledAfter

	if err != nil {
		return fmt.Errorf("the token file: %w", err)
	}

	content := sha256.Sum256(data)
	if t.known != nil && content == t.content && t.problem == "" {
		return nil
	}

	known, err := parseTokens(data)
	if err != nil {
		return fmt.Errorf("the token file %s: %w", t.File, err)
	}

	if t.known != nil {
		t.Logger.Info("the token file was read again", zap.String("file", t.File), zap.Int("tokens", len(known)))
	}

	// Only a warning: in a volume of Kubernetes the modes are not the owner's to choose.
	if info.Mode().Perm()&0o022 != 0 {
		t.Logger.Warn("others than its owner can write the token file: who can write it can give themselves every role; remove that permission (chmod go-w)",
			zap.String("file", t.File), zap.Stringer("mode", info.Mode().Perm()))
	}

	t.known, t.content = known, content

	return nil
}

// readRegular reads a file, and one byte more than may be in it. What is no file might
// never end.
func readRegular(name string) ([]byte, os.FileInfo, error) {
	info, err := os.Stat(name)

	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is not a regular file: name a file", name)
	}

	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() //nolint:errcheck // only read from

	if info, err = f.Stat(); err != nil {
		return nil, nil, err
	}

	data, err := io.ReadAll(io.LimitReader(f, MaxTokenFile+1))

	return data, info, err
}
