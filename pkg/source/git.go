package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"go.uber.org/zap"
)

// GitConfig says which branch of which repository to follow, and how.
type GitConfig struct {
	// URL is https://…, file:///… or a path. http:// is accepted: nothing secret is
	// ever sent over it. A URL with credentials in it is refused.
	URL string
	// Branch is the branch to follow. Empty: the repository's default branch, also
	// when that changes.
	Branch string
	// StateDir is a folder for fetched objects, made if missing. It survives restarts
	// and may be deleted when nothing runs. Only one Git at a time may use it. Empty: a
	// temporary folder, which Close removes.
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
}

// Git follows a branch of a repository.
//
// A look costs one request for the server's list of branches. Only when the branch
// moved are objects fetched, without history and only those that are missing.
type Git struct {
	cfg    GitConfig
	shown  string // the URL for messages
	remote remote
	cap    time.Duration // of the backoff
	err    error         // the configuration is wrong
	poke   bell

	turn   turn // guards what follows
	temp   string
	store  *store
	last   Revision
	commit plumbing.Hash // of last
	closed bool
}

// NewGit returns a Git that has done nothing yet. What is wrong with the
// configuration is returned by Fetch and Watch.
func NewGit(cfg GitConfig) *Git {
	g := &Git{cfg: cfg, shown: Redact(cfg.URL), poke: newBell(), turn: newTurn()}

	where, err := locate(cfg.URL)

	interval := time.Minute
	if where.url != nil {
		g.remote, g.cap = newHTTPRemote(where.url), backoffCapRemote
	} else {
		g.remote, g.cap = localRemote{where.path}, backoffCapLocal
		interval = time.Second
	}

	if err == nil && cfg.Branch != "" {
		if bad := plumbing.NewBranchReferenceName(cfg.Branch).Validate(); bad != nil {
			err = fmt.Errorf("%q is no valid branch name", cfg.Branch)
		}
	}

	if g.cfg.Interval <= 0 {
		g.cfg.Interval = interval
	}

	if g.cfg.Timeout <= 0 {
		g.cfg.Timeout = 5 * time.Minute
	}

	if g.cfg.MaxSize <= 0 {
		g.cfg.MaxSize = DefaultMaxSize
	}

	if g.cfg.Logger == nil {
		g.cfg.Logger = zap.NewNop()
	}

	g.cfg.Logger = g.cfg.Logger.With(zap.String("repository", g.shown))

	if err != nil {
		g.err = fmt.Errorf("git repository %s: %w", g.shown, err)
	}

	return g
}

// Validate tells what is wrong with the configuration, without looking at the
// repository.
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

	if err := g.turn.take(ctx); err != nil {
		return Revision{}, fmt.Errorf("fetch %s: %w", g.shown, err)
	}
	defer g.turn.done()

	rev, err := g.fetch(ctx)

	switch {
	case err == nil:
		return rev, nil
	case ctx.Err() != nil && outer.Err() == nil:
		return Revision{}, fmt.Errorf("fetch %s: not done after %s: check the connection or raise the timeout: %w", g.shown, g.cfg.Timeout, ctx.Err())
	default:
		return Revision{}, fmt.Errorf("fetch %s: %w", g.shown, err)
	}
}

func (g *Git) fetch(ctx context.Context) (Revision, error) {
	if g.closed {
		return Revision{}, errors.New("closed")
	}

	view, err := g.remote.look(ctx)
	if err != nil {
		return Revision{}, err
	}

	branch, commit, err := view.pick(g.cfg.Branch)
	if err != nil {
		return Revision{}, err
	}

	if err = g.open(); err != nil {
		return Revision{}, err
	}

	id := branch + "@sha1:" + commit.String()
	if id == g.last.ID && g.last.FS.(*tree).content == (gitContent{g.store}) {
		return g.last, nil
	}

	if err = g.download(ctx, view, commit); err != nil {
		return Revision{}, err
	}

	head, err := g.store.commit(commit)
	if err != nil {
		return Revision{}, fmt.Errorf("read commit %s: %w", commit, err)
	}

	rev := Revision{
		ID:      id,
		FS:      newGitTree(g.store, head.TreeHash, head.Committer.When),
		Author:  person(head.Author),
		Message: firstLine(head.Message),
		Time:    head.Committer.When,
	}

	g.announce(ctx, view, rev, head)
	g.last, g.commit = rev, commit

	return rev, nil
}

// open makes sure that there is a store, and that it is whole.
func (g *Git) open() error {
	if g.store != nil && !g.store.damaged.Load() {
		return nil
	}

	dir := g.cfg.StateDir
	if dir == "" {
		if g.temp == "" {
			temp, err := os.MkdirTemp("", "omni-syncd-git-")
			if err != nil {
				return fmt.Errorf("make a temporary folder for objects: %w", err)
			}

			g.temp = temp
		}

		dir = g.temp
	}

	if g.store != nil {
		g.cfg.Logger.Warn("an object cannot be read: fetching everything anew", zap.String("store", g.store.dir))

		next, err := g.store.anew()
		if err != nil {
			return err
		}

		g.replace(next)

		return nil
	}

	st, broken, err := openState(dir)
	if err != nil {
		return err
	}

	if broken != nil {
		g.cfg.Logger.Warn("the object store was damaged and is removed: fetching everything anew", zap.Error(broken))
	}

	g.store = st

	return nil
}

func (g *Git) replace(next *store) {
	old := g.store
	g.store = next
	old.retire()
}

// download brings all objects of a commit to the store.
func (g *Git) download(ctx context.Context, view *view, commit plumbing.Hash) error {
	if !g.store.has(commit) {
		pack, err := view.pack(ctx, commit, g.store)
		if err != nil {
			return err
		}

		err = g.store.add(ctx, pack, limits{size: g.cfg.MaxSize, progress: g.cfg.Progress})
		if err = errors.Join(err, pack.Close()); err != nil {
			return err
		}
	}

	if tip, ok := g.store.tip(); ok && tip == commit {
		return nil
	}

	if err := g.store.setTip(commit); err != nil {
		return err
	}

	packs, err := g.store.packs()
	if err != nil || len(packs) <= maxPacks {
		return err
	}

	next, err := g.store.compact(ctx, commit)
	if err != nil {
		g.cfg.Logger.Warn("the object store cannot be compacted: trying again with the next fetch", zap.Error(err))

		return nil // it works as it is
	}

	g.replace(next)

	return nil
}

// announce notes what changed. Whoever takes the revision tells people about it; only a
// branch that was forced is news that nobody else can tell.
func (g *Git) announce(ctx context.Context, view *view, rev Revision, head *object.Commit) {
	log := g.cfg.Logger.With(zap.String("revision", rev.ID), zap.String("author", rev.Author), zap.String("message", rev.Message))

	if g.last.ID == "" || g.last.ID == rev.ID {
		log.Debug("fetched")

		return
	}

	log = log.With(zap.String("previous", g.last.ID))

	for _, parent := range head.ParentHashes {
		if parent == g.commit {
			log.Debug("fetched")

			return
		}
	}

	if yes, known := view.follows(ctx, g.commit, plumbing.NewHash(rev.ID[len(rev.ID)-40:])); known && !yes {
		log.Warn("new revision, forced: the previous one is not in its history")

		return
	}

	log.Debug("fetched")
}

// Watch calls fn with the first and every new revision, and with Revision{} and the
// error of every look that failed, until ctx ends; then it returns nil. It returns an
// error at once if the configuration is wrong.
//
// It looks every Interval and when it is poked; after failures less and less often,
// up to every 5 minutes (30 seconds for a repository on this machine). fn is called by
// one goroutine, and the next look waits for it.
func (g *Git) Watch(ctx context.Context, fn func(Revision, error)) error {
	if g.err != nil {
		return g.err
	}

	return watch(ctx, g.cfg.Interval, g.cap, g.poke, g.Fetch, fn)
}

// Close ends the use of Git: Fetch fails from now on. The temporary folder, if there
// is one, is removed, and its revisions cannot be read any more.
func (g *Git) Close() error {
	if err := g.turn.take(context.Background()); err != nil {
		return err
	}
	defer g.turn.done()

	if g.closed = true; g.temp == "" {
		return nil
	}

	return os.RemoveAll(g.temp)
}

func person(s object.Signature) string {
	switch {
	case s.Name == "" && s.Email == "":
		return ""
	case s.Email == "":
		return clean(s.Name)
	default:
		return clean(s.Name + " <" + s.Email + ">")
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")

	return clean(line)
}

// clean makes text of strangers fit to be shown on one line of a terminal.
func clean(text string) string {
	const most = 200

	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}

		return r
	}, text))

	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}

	return text
}
