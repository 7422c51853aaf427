package source

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"time"
)

// Bounds on what is accepted from outside. Over one of them is a clear error.
const (
	// DefaultMaxSize bounds the bytes of one fetch, if GitConfig.MaxSize is zero.
	DefaultMaxSize = 512 << 20
	// MaxFileSize bounds a file that is read through Revision.FS. A larger one is
	// listed, and opening it is an error.
	MaxFileSize = 16 << 20
	// MaxEntries bounds the files and folders seen in one Git revision. Only folders
	// that are opened count.
	MaxEntries = 200_000
	// MaxDepth bounds how deep folders are nested.
	MaxDepth = 128
	// MaxDirFiles bounds the files and folders of a directory source.
	MaxDirFiles = 20_000
	// MaxDirSize bounds the bytes of a directory source: they are held in memory.
	MaxDirSize = 64 << 20
)

// Revision is an immutable tree and its identity.
type Revision struct {
	// ID is "main@sha1:<40 hex>" for Git and "dir@sha256:<hex>" for a directory. Before
	// the @ stands the branch, the tag (also the one that a range of versions led to), the
	// full name of another ref, or HEAD if the repository's HEAD is on no branch. If a commit
	// is followed the ID is "sha1:<40 hex>".
	ID string
	// FS is the root of the repository or directory. It is safe for concurrent use
	// and stays readable after newer revisions arrived, until Git.Close.
	//
	// A symbolic link to a file is listed as that file. A link to a folder, a broken
	// one and one that leaves the tree are listed as fs.ModeSymlink, so that
	// fs.WalkDir meets every file once; opening follows them or says what is wrong.
	//
	// It has a method Moving() bool, which is true if a directory was read before it came
	// to rest: what is missing then may be on its way. When it rests, it is a new revision
	// with the same ID.
	//
	// What Git leaves out of the checkout that a directory lies in is listed, and opening it says why. Of a folder that may
	// be incomplete fs.ReadDir returns the entries and an error that has a method Uncertain() string.
	FS fs.FS
	// Author is "Jane <jane@example.com>", or "".
	Author string
	// Message is the first line of the commit message, or "".
	Message string
	// Time is the committer's time, or zero.
	Time time.Time
	// Ref is the full name of the Git ref that was followed, such as refs/heads/main or
	// HEAD; "" for a commit and for a directory.
	Ref string
	// Commit is the ID of the Git commit, 40 hexadecimal digits. For a directory it is what is checked out there, which the
	// files may differ from; "" outside of a checkout.
	Commit string
	// Repository is the [Identity] of the repository: of the URL, or of the remote of the checkout that a directory lies
	// in; "" for any other directory. Folder is the root of FS inside the repository, "" if that is its root.
	Repository, Folder string
	// Forced says that the ref was moved to a commit that does not have the revision
	// before this one in its history, by whatever name, or that a tag was moved. It is false if
	// that is not known, as for the first revision of a process.
	Forced bool
}

// backoffCap is how long a failing source waits at most between two looks, unless
// its interval is longer. Things on this machine come back without notice and cost
// nothing to look at; servers are given room.
const (
	backoffCapRemote = 5 * time.Minute
	backoffCapLocal  = 30 * time.Second
)

// delay is the time until the next look: the interval, doubled with every failure in
// a row up to limit, give or take 10% so that many daemons do not hit a server in
// step.
func delay(interval, limit time.Duration, failures int) time.Duration {
	d, limit := interval, max(limit, interval)
	for range failures {
		if d = min(2*d, limit); d == limit {
			break
		}
	}

	return d - d/10 + rand.N(d/5+1)
}

// watch polls until ctx ends. rest waits for the next look, after that many failures in
// a row, and tells whether there is one.
func watch(ctx context.Context, rest func(ctx context.Context, failures int) bool, fetch func(context.Context) (Revision, error), fn func(Revision, error)) {
	var (
		seen     fs.FS // a revision that was fetched anew is new, too: its old FS cannot be read
		failures int
		failed   bool
	)

	for {
		rev, err := fetch(ctx)

		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if failures++; isRefusal(err) {
				failures = 0
			}

			failed = true

			fn(Revision{}, err)
		default:
			failures = 0

			if rev.FS != seen || failed {
				seen, failed = rev.FS, false

				fn(rev, nil)
			}
		}

		if !rest(ctx, failures) {
			return
		}
	}
}

// bell wakes a waiting loop. Any number of rings before it wakes are one.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default: // already ringing
	}
}

// wait returns true after d or when the bell rings, false when ctx ends.
func (b bell) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()

	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-b:
	}

	return ctx.Err() == nil
}

// turn lets one goroutine in at a time. Unlike a mutex, waiting for it ends with the
// context.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) done() { <-t }
