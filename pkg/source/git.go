package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"go.uber.org/zap"
)

// Git follows a ref of a repository. It is safe for concurrent use.
//
// A look costs one request for the server's list of refs. Only when the ref moved are
// objects fetched, without history (but see KeepHistory) and only those that are missing.
type Git struct {
	cfg    GitConfig
	shown  string // the URL for messages
	host   string // of the server; "" if there is none
	remote remote
	cap    time.Duration // of the backoff
	err    error         // the configuration is wrong
	poke   bell
	hub    hub
	// history tells what the commits build on, and curious that it must know.
	history *history
	curious atomic.Bool

	turn   turn // guards what follows
	temp   string
	lock   *os.File
	store  *store
	last   Revision
	of     *store // that last reads from
	found  picked // what last was made of
	commit plumbing.Hash
	closed bool

	lessons lessons
}

// NewGit returns a Git that has done nothing yet. What is wrong with the
// configuration is returned by Fetch and Watch.
func NewGit(cfg GitConfig) *Git {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Minute
	}

	if cfg.MaxSize <= 0 {
		cfg.MaxSize = DefaultMaxSize
	}

	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}

	g := &Git{cfg: cfg, shown: Redact(cfg.URL), poke: newBell(), turn: newTurn(), cap: backoffCapRemote, history: newHistory(nil)}
	g.cfg.Logger = cfg.Logger.With(zap.String("repository", g.shown))

	if err := g.check(); err != nil {
		g.err = fmt.Errorf("git repository %s: %w", g.shown, err)
	}

	if g.cfg.Interval <= 0 {
		g.cfg.Interval = g.defaultInterval()
	}

	g.hub.interval = g.cfg.Interval

	return g
}

// check looks at the configuration and sets the remote.
func (g *Git) check() error {
	where, err := locate(g.cfg.URL)
	if err != nil {
		return err
	}

	if err = g.cfg.Ref.check(); err != nil {
		return err
	}

	via, err := parseProxy(g.cfg.Proxy, g.cfg.ProxyPasswordFile)

	switch {
	case err != nil:
		return err
	case where.path != "" && via.url != nil:
		return errors.New("a repository on this machine needs no proxy: remove it")
	}

	if err = errors.Join(g.cfg.TLS.check(where), g.cfg.Login.check(where, via)); err != nil {
		return err
	}

	files := &secretFiles{log: g.cfg.Logger}

	switch {
	case where.url != nil:
		g.host = where.url.Hostname()
		g.remote = newHTTPRemote(where.url, &g.cfg, via, files)
	case where.ssh != nil:
		g.host = where.ssh.host
		g.remote = &sshRemote{addr: *where.ssh, login: g.cfg.Login, proxy: via, files: files}
	default:
		local := localRemote{where.path}
		g.remote, g.cap, g.history = local, backoffCapLocal, newHistory(local.objects)
	}

	return nil
}

func (g *Git) defaultInterval() time.Duration {
	if _, local := g.remote.(localRemote); local {
		return time.Second
	}

	return time.Minute
}

// Validate tells what is wrong with the configuration, without looking at the
// repository or at any file.
func (g *Git) Validate() error { return g.err }

// Poke makes Watch look now. It returns at once; any number of calls until the look
// starts are one look. A call during a look leads to another one.
func (g *Git) Poke() { g.poke.ring() }

// Fetch looks once and returns the newest revision: the same one, down to its FS,
// when nothing changed. It does not try again. A failure leaves everything as it was;
// the error names the repository, says what to do and holds nothing secret.
func (g *Git) Fetch(ctx context.Context) (Revision, error) {
	if g.err != nil {
		return Revision{}, g.err
	}

	outer := ctx

	ctx, cancel := context.WithTimeout(outer, g.cfg.Timeout)
	defer cancel()

	deadline, _ := ctx.Deadline()

	if err := g.turn.take(ctx); err != nil {
		return Revision{}, fmt.Errorf("fetch %s: %w", g.shown, err)
	}
	defer g.turn.done()

	rev, err := g.fetch(ctx)
	if hidden, ok := g.remote.(interface{ secrets() []string }); ok {
		err = scrub(err, hidden.secrets())
	}

	switch {
	case err == nil:
		g.hub.fetched()

		return rev, nil
	case outer.Err() == nil && (ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(deadline)):
		// A connection with the same deadline may notice a moment before the context.
		return Revision{}, fmt.Errorf("fetch %s: not done after %s: check the connection or raise the timeout: %w", g.shown, g.cfg.Timeout, context.DeadlineExceeded)
	default:
		return Revision{}, fmt.Errorf("fetch %s: %w", g.shown, err)
	}
}

func (g *Git) fetch(ctx context.Context) (Revision, error) {
	if g.closed {
		return Revision{}, errors.New("closed")
	}

	if err := g.open(); err != nil {
		return Revision{}, err
	}

	var (
		view   *view
		found  picked
		pinned = g.cfg.Ref.Commit != ""
		err    error
	)

	if pinned {
		found.object = plumbing.NewHash(g.cfg.Ref.Commit)
	}

	if !pinned || !g.store.has(found.object) {
		err = g.observed(RequestLook, func() error {
			view, err = g.remote.look(ctx)

			return err
		})
		if err != nil {
			return Revision{}, err
		}
		defer view.done()
	}

	if !pinned {
		if found, err = view.pick(g.cfg.Ref); err != nil {
			return Revision{}, err
		}
	}

	if g.last.FS != nil && found == g.found && g.of == g.store {
		if of := g.history.parentsKnown(g.commit); len(of) > 0 {
			g.learn(ctx, view, g.commit, of) // KeepHistory may be newer, and a server may not have answered
		}

		return g.last, nil
	}

	if err = g.download(ctx, view, found, pinned); err != nil {
		return Revision{}, err
	}

	rev, head, err := g.revision(found)
	if err != nil {
		return Revision{}, err
	}

	if tip, ok := g.store.tip(); !ok || tip != head.Hash {
		if err = g.store.setTip(head.Hash); err != nil {
			return Revision{}, err
		}
	}

	g.learn(ctx, view, head.Hash, head.ParentHashes)

	rev.Forced = g.forced(found, head)

	g.announce(rev)
	g.remember(found)
	g.last, g.of, g.found, g.commit = rev, g.store, found, head.Hash

	return rev, nil
}

// revision makes a revision of what is in the store, if Verify lets it pass.
func (g *Git) revision(found picked) (Revision, *object.Commit, error) {
	signed, head, err := g.read(found)
	if err != nil {
		return Revision{}, nil, err
	}

	id := found.id(head.Hash)

	if g.cfg.Verify != nil {
		if err = g.cfg.Verify(signed); err != nil {
			return Revision{}, nil, &RefusedError{id, err}
		}
	}

	return Revision{
		ID:      id,
		FS:      newGitTree(g.store, head.TreeHash, head.Committer.When),
		Author:  person(head.Author),
		Message: firstLine(head.Message),
		Time:    head.Committer.When,
		Ref:     string(found.ref),
		Commit:  head.Hash.String(),

		Repository: Identity(g.cfg.URL),
	}, head, nil
}

// read reads what was fetched.
func (g *Git) read(found picked) (Signed, *object.Commit, error) {
	tags, commit, err := peel(g.store, found.object)
	if err != nil {
		if !errors.Is(err, errNoCommit) {
			g.store.damaged.Store(true) // it was there, or the server left it out: fetch it anew
		}

		return Signed{}, nil, err
	}

	head := &object.Commit{}
	if err = head.Decode(commit); err != nil {
		return Signed{}, nil, fmt.Errorf("read commit %s: %w", commit.Hash(), err)
	}

	signed := Signed{Ref: string(found.ref), CommitID: head.Hash.String()}

	if signed.Commit, err = whole(commit); err != nil {
		return Signed{}, nil, err
	}

	if len(tags) > 0 {
		if signed.Tag, err = whole(tags[0]); err != nil {
			return Signed{}, nil, err
		}

		signed.TagID, signed.TagTarget = tags[0].Hash().String(), signed.CommitID
		if len(tags) > 1 {
			signed.TagTarget = tags[1].Hash().String()
		}
	}

	return signed, head, nil
}

// whole reads a commit or a tag.
func whole(obj plumbing.EncodedObject) ([]byte, error) {
	r, err := obj.Reader()
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", obj.Hash(), err)
	}

	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read object %s: %w", obj.Hash(), err)
	}

	return data, nil
}

// forced tells whether what is followed was moved to a commit that does not build on the
// last one, by whatever name.
func (g *Git) forced(found picked, head *object.Commit) bool {
	switch {
	case g.last.ID == "" || g.commit == head.Hash:
		return false
	case found.ref == g.found.ref && found.ref.IsTag():
		return true // a tag is not meant to move
	}

	yes, known := g.history.follows(head.Hash, g.commit)

	// A server that told everything in between did not name the last one: the history before does not matter.
	return !yes && (known || g.lessons.all)
}

// announce notes what changed. Whoever takes the revision tells people about it; only a
// ref that was forced is news that nobody else can tell.
func (g *Git) announce(rev Revision) {
	log := g.cfg.Logger.With(zap.String("revision", rev.ID), zap.String("author", rev.Author), zap.String("message", rev.Message))

	if rev.Forced {
		log.Warn("new revision, forced: the previous one is not in its history", zap.String("previous", g.last.ID))

		return
	}

	log.Debug("fetched", zap.String("previous", g.last.ID))
}

// Close ends the use of Git: Fetch fails from now on. The temporary folder, if there
// is one, is removed, and its revisions cannot be read any more. Closing twice is fine.
func (g *Git) Close() error {
	if err := g.turn.take(context.Background()); err != nil {
		return err
	}
	defer g.turn.done()

	g.closed = true

	if kept, ok := g.remote.(interface{ close() }); ok {
		kept.close()
	}

	var errs []error

	if g.lock != nil {
		errs = append(errs, g.lock.Close())
		g.lock = nil
	}

	if g.temp != "" {
		errs = append(errs, os.RemoveAll(g.temp))
	}

	return errors.Join(errs...)
}
