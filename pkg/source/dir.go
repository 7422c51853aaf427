package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// DirConfig says which directory to follow, and how.
type DirConfig struct {
	// Path is the directory. It may be missing for a while, and it may be a symbolic
	// link that is swapped.
	Path string
	// Settle is how long nothing must have changed before the files are taken, so that
	// a tree is not taken while it is being written. Zero: 200ms. Files that kept changing
	// for longer must rest for as long as they did, up to ten times Settle. A directory
	// that has not come to rest after ten times Settle is taken as it is, if it holds still
	// while it is read, and its tree says so: see Revision.FS.
	Settle time.Duration
	// Interval is the time between two looks without a notification from the system, as
	// a safety net. A look costs one stat a file. Zero: 10s.
	Interval time.Duration
	// Poll replaces a longer Interval while the system does not tell of every change: on
	// a network filesystem (NFS, SMB, FUSE, 9P, Ceph and others), where it does not know
	// what other machines do, and when it has no watches left. Zero: 2s.
	Poll time.Duration
	// Logger may be nil.
	Logger *zap.Logger
}

const (
	// racy is the coarsest resolution of modification times. A file changed this short
	// before it was read may change again without a trace.
	racy = 2 * time.Second
	// maxReads bounds how often a directory that changes while it is read is read.
	maxReads = 10
)

// Dir follows a directory. Each revision is a copy in memory (see MaxDirSize).
type Dir struct {
	cfg  DirConfig
	path string // absolute
	poke bell
	// notify makes the watcher, network tells what a folder is on; replaced in tests.
	notify  func() (*fsnotify.Watcher, error)
	network func(folder string) string
	history *history // of the checkout around it

	turn    turn // guards what follows
	scan    *scan
	trusted bool // scan tells apart whatever changes from now on
	last    Revision
	moving  time.Time // when the files began to change; zero: they rest
}

// NewDir returns a Dir that has done nothing yet.
func NewDir(cfg DirConfig) *Dir {
	if cfg.Settle <= 0 {
		cfg.Settle = 200 * time.Millisecond
	}

	if cfg.Interval <= 0 {
		cfg.Interval = 10 * time.Second
	}

	if cfg.Poll <= 0 {
		cfg.Poll = 2 * time.Second
	}

	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}

	cfg.Logger = cfg.Logger.With(zap.String("directory", cfg.Path))

	path := cfg.Path
	if abs, err := filepath.Abs(path); err == nil && path != "" {
		path = abs
	}

	return &Dir{cfg: cfg, path: path, poke: newBell(), notify: fsnotify.NewWatcher, network: network, turn: newTurn(), history: newHistory(func() (objectReader, error) { return checkoutObjects(path) })}
}

// Poke makes Watch look now, as Git.Poke does.
func (d *Dir) Poke() { d.poke.ring() }

// Fetch looks once and returns the directory as it is, after it settled; the same
// revision, down to its FS, when nothing changed. A failure leaves everything as it
// was; the error names the directory and says what to do.
func (d *Dir) Fetch(ctx context.Context) (Revision, error) {
	if err := d.turn.take(ctx); err != nil {
		return Revision{}, fmt.Errorf("read directory %s: %w", d.cfg.Path, err)
	}
	defer d.turn.done()

	rev, err := d.read(ctx)

	switch {
	case err == nil:
		return rev, nil
	case errors.Is(err, fs.ErrNotExist):
		return Revision{}, fmt.Errorf("read directory %s: it does not exist: check the path", d.cfg.Path)
	default:
		return Revision{}, fmt.Errorf("read directory %s: %w", d.cfg.Path, err)
	}
}

// patience is how long the files are waited for until they are taken as they are.
func (d *Dir) patience() time.Duration { return 10 * d.cfg.Settle }

// stirred notes that the files begin to change.
func (d *Dir) stirred() {
	d.turn <- struct{}{}
	defer d.turn.done()

	d.rest(time.Now())
}

// rest notes a change, and returns how long the files must rest after it. What kept changing
// for a while, as a copy that is under way does, may pause for a moment: it rests when
// it has rested for as long.
func (d *Dir) rest(changed time.Time) time.Duration {
	if d.moving.IsZero() {
		d.moving = changed
	}

	return min(max(changed.Sub(d.moving), d.cfg.Settle), d.patience())
}

// read takes the files once they came to rest, or are waited for no longer. Either way,
// nothing changed while they were read.
func (d *Dir) read(ctx context.Context) (Revision, error) {
	deadline := time.Now().Add(d.patience())

	for range maxReads {
		rev, err := d.attempt(ctx, deadline)
		if !errors.Is(err, errChanging) {
			return rev, err
		}

		if err = sleep(ctx, d.cfg.Settle/4); err != nil {
			return Revision{}, err
		}
	}

	return Revision{}, errors.New("the files change all the time: waiting for them to settle")
}

var errChanging = errors.New("changing")

func (d *Dir) attempt(ctx context.Context, deadline time.Time) (Revision, error) {
	root, err := openRoot(d.path)
	if err != nil {
		return Revision{}, err
	}
	defer root.Close()

	before, err := scanDir(root)
	if err != nil {
		return Revision{}, vanished(err)
	}

	if d.trusted && before.same(d.scan) {
		d.scan, d.moving = before, time.Time{}

		return d.last, nil
	}

	now := time.Now()
	age := now.Sub(before.newest)

	// The clock of a file server is not ours: a time says nothing, only that nothing
	// changed while we waited.
	foreign := age < 0 || d.network(d.path) != ""

	changed := before.newest
	if foreign {
		changed = now
	}

	rest := d.rest(changed)
	settled := !foreign && age >= rest

	switch {
	case settled || !now.Before(deadline):
	case !foreign:
		if err = sleep(ctx, min(rest-age, deadline.Sub(now))); err != nil {
			return Revision{}, err
		}

		return d.attempt(ctx, deadline)
	default:
		if err = sleep(ctx, rest); err != nil {
			return Revision{}, err
		}

		again, err := scanDir(root)
		if err != nil {
			return Revision{}, vanished(err)
		}

		if !again.same(before) {
			return d.attempt(ctx, deadline)
		}

		settled = true
	}

	tree, err := before.load(root)
	if err != nil {
		return Revision{}, vanished(err)
	}

	after, err := scanDir(root)
	if err != nil {
		return Revision{}, vanished(err)
	}

	if !before.same(after) {
		return Revision{}, errChanging
	}

	return d.take(after, tree, settled, age), nil
}

// take makes a revision of the files. What has not come to rest, and then does, is another
// one of the same ID.
func (d *Dir) take(files *scan, tree *tree, settled bool, age time.Duration) Revision {
	d.scan, d.trusted, tree.moving = files, settled && age > racy, !settled

	if settled {
		d.moving = time.Time{}
	}

	if id := "dir@sha256:" + tree.root.sum; id != d.last.ID || tree.moving != moving(d.last) {
		before := d.last.Commit
		d.last = Revision{ID: id, FS: tree}
		d.locate(before)
	}

	return d.last
}

// locate notes which repository the directory is checked out from, and whether another commit is checked out that does not
// have the one before in its history.
func (d *Dir) locate(before string) {
	checkout, ok := CheckoutOf(d.path)
	if !ok {
		return
	}

	d.last.Repository, d.last.Folder = checkout.Repository, checkout.Folder
	d.last.Commit, _ = checkout.Head() // a repository without a commit has none

	if before != "" && d.last.Commit != before {
		yes, known := d.Follows(d.last.Commit, before)
		d.last.Forced = known && !yes
	}
}

// Follows reports whether one commit of the checkout that the directory lies in, mostly that of a revision, has another in
// its history. known is false if nobody can tell: the clone is shallow, or its history is very long.
func (d *Dir) Follows(head, commit string) (yes, known bool) {
	return d.history.followsText(head, commit)
}

// moving reports whether the files of a directory had not come to rest.
func moving(rev Revision) bool { return rev.FS.(*tree).moving } //nolint:forcetypeassert // Dir makes no other

// vanished tells a file that went while we read from a directory that is not there.
func vanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errChanging
	}

	return err
}

// folders returns the folders that the last Fetch to succeed found.
func (d *Dir) folders() map[string]fs.FileInfo {
	d.turn <- struct{}{}
	defer d.turn.done()

	if d.scan == nil {
		return nil
	}

	return d.scan.folders
}

// Watch calls fn with the first and every new revision, with Revision{} and the error of
// every look that failed, and with the revision once more when a look succeeds after
// that, until ctx ends; then it returns nil.
//
// It looks when the system tells of a change, when it is poked and every Interval;
// after failures less and less often, up to every 30 seconds. Changes that lead to
// the same files are no revision. fn is called by one goroutine, and the next look
// waits for it.
func (d *Dir) Watch(ctx context.Context, fn func(Revision, error)) error {
	w := &watcher{root: d.path, notify: d.notify, network: d.network, poll: d.cfg.Poll, log: d.cfg.Logger, stirred: d.stirred}
	defer w.close()

	var (
		seen     fs.FS
		failures int
	)

	for {
		rev, err := d.Fetch(ctx)
		if ctx.Err() != nil {
			return nil
		}

		// Folders that were not watched while we read may have changed since: look again.
		// After a failure what is watched stays as it is: the folder above the directory
		// tells when it comes back.
		if (err == nil || !w.started) && w.follow(d.folders()) {
			continue
		}

		switch {
		case err != nil:
			failures++

			fn(Revision{}, err)
		default:
			if rev.FS != seen || failures > 0 {
				if seen != nil {
					d.cfg.Logger.Debug("read", zap.String("revision", rev.ID))
				}

				seen = rev.FS

				fn(rev, nil)
			}

			failures = 0
		}

		interval := d.cfg.Interval
		if w.blind() {
			interval = min(interval, d.cfg.Poll)
		}

		if err == nil && moving(rev) {
			interval = min(interval, d.cfg.Settle)
		}

		if !w.wait(ctx, delay(interval, backoffCapLocal, failures), d.cfg.Settle, d.poke) {
			return nil
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	newBell().wait(ctx, d)

	return ctx.Err()
}
