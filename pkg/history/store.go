package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/statefile"
)

// Config says where the history is and how much of it is kept.
type Config struct {
	// Path is the file; its folder is made if missing. Only one process may use it.
	Path string
	// PerTarget, Targets and Bytes bound what is kept. Zero: the defaults.
	PerTarget, Targets int
	Bytes              int64
	// Logger may be nil.
	Logger *zap.Logger
}

// Store is a history in a file. It is safe for concurrent use.
type Store struct {
	Config

	pending chan Entry

	mu     sync.Mutex
	file   *os.File // nil while it cannot be used, and after Close
	index  index    // what is in the file
	fault  error    // why file is nil
	told   string   // the last warning
	closed bool
}

// Open opens the history, or makes a new one. It always succeeds: a file that is damaged is
// put aside, and what can be read of it is kept; while a file cannot be used at all, entries
// are lost, with a warning.
func Open(cfg Config) *Store {
	cfg.PerTarget = cmp.Or(cfg.PerTarget, DefaultPerTarget)
	cfg.Targets = cmp.Or(cfg.Targets, DefaultTargets)
	cfg.Bytes = cmp.Or(cfg.Bytes, DefaultBytes)
	cfg.Logger = cmp.Or(cfg.Logger, zap.NewNop())

	s := &Store{Config: cfg, pending: make(chan Entry, maxPending)}

	s.mu.Lock()
	defer s.mu.Unlock()

	s.open()

	return s
}

// open makes the file usable, or notes why that cannot be. The lock is held.
func (s *Store) open() {
	if s.fault = s.load(); s.fault != nil {
		s.release()
		s.warn("the history cannot be used: nothing is kept until that is over", s.fault)
	}
}

// load opens the file and reads what is in it. The lock is held.
func (s *Store) load() error {
	s.release()

	if err := os.MkdirAll(filepath.Dir(s.Path), 0o700); err != nil {
		return err
	}

	file, err := statefile.Open(s.Path, os.O_RDWR)

	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.rewrite()
	case errors.Is(err, statefile.ErrNotRegular), errors.Is(err, fs.ErrPermission):
		return s.salvage(err)
	case err != nil:
		return err
	}

	s.file = file

	if err := s.index.read(file, s.Config); err != nil {
		return s.salvage(err)
	}

	if s.index.wasteful() {
		return s.rewrite()
	}

	return nil
}

// salvage puts the file aside and begins a new one with what can be read of it. The lock is
// held.
func (s *Store) salvage(damage error) error {
	if s.file != nil {
		s.file.Close() //nolint:errcheck // only read from
		s.file = nil
	}

	aside, err := statefile.PutAside(s.Path)
	if err != nil {
		return fmt.Errorf("it is damaged (%w) and cannot be put aside: %w", damage, err)
	}

	s.Logger.Warn("the history is damaged: it is put aside, and what can be read of it is kept",
		zap.String("file", s.Path), zap.String("aside", aside), zap.Int("entries", s.index.entries()), zap.Error(damage))

	if s.index.entries() > 0 {
		if s.file, err = os.Open(aside); err != nil {
			s.index = index{}
		}
	}

	return s.rewrite()
}

// rewrite replaces the file by one that holds what the index holds and nothing else, and
// opens that. The lock is held.
func (s *Store) rewrite() error {
	err := statefile.Replace(s.Path, func(to io.Writer) error {
		defer s.closeFile() // Windows replaces no file that is open

		return s.index.copy(to, s.file)
	})
	if err != nil {
		return err
	}

	if s.file, err = statefile.Open(s.Path, os.O_RDWR); err != nil {
		return err
	}

	return s.index.read(s.file, s.Config)
}

// release forgets the file. The lock is held.
func (s *Store) release() {
	s.closeFile()
	s.index = index{}
}

func (s *Store) closeFile() {
	if s.file != nil {
		s.file.Close() //nolint:errcheck // what was written is synced
		s.file = nil
	}
}

// warn tells of what goes wrong, once. The lock is held.
func (s *Store) warn(what string, err error) {
	if text := what + err.Error(); text != s.told {
		s.told = text
		s.Logger.Warn(what, zap.String("file", s.Path), zap.Error(err))
	}
}

// Add hands an entry over to Run. It never blocks; if Run lags too far behind, the entry
// is dropped with a warning.
func (s *Store) Add(entry Entry) {
	entry.Author = shorten(entry.Author)
	entry.Error = shorten(entry.Error)
	entry.Message = shorten(entry.Message)

	select {
	case s.pending <- entry:
	default:
		s.Logger.Warn("the history cannot be written fast enough: an entry is lost", zap.String("source", entry.Source), zap.String("cluster", entry.Cluster))
	}
}

func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}

	return text[:maxText] + "…"
}

// Run writes entries until ctx ends; then it writes what is pending and closes the file.
// An entry is durable some milliseconds after Add. A failed write loses entries, with a
// warning, and stops nothing.
func (s *Store) Run(ctx context.Context) {
	for {
		select {
		case entry := <-s.pending:
			s.write(append(s.drain(), entry))
		case <-ctx.Done():
			s.Close()

			return
		}
	}
}

// Close writes what is pending and closes the file. Run does it, too; a second call does
// nothing.
func (s *Store) Close() {
	s.write(s.drain())

	s.mu.Lock()
	defer s.mu.Unlock()

	s.release()
	s.closed, s.fault = true, fs.ErrClosed
}

// drain takes everything that is pending, so that a burst is one write.
func (s *Store) drain() []Entry {
	var entries []Entry

	for {
		select {
		case entry := <-s.pending:
			entries = append(entries, entry)
		default:
			return entries
		}
	}
}

// write appends entries to the file.
func (s *Store) write(entries []Entry) {
	if len(entries) == 0 {
		return
	}

	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Ended.Compare(b.Ended) })

	s.mu.Lock()
	defer s.mu.Unlock()

	if !s.closed && !s.intact() {
		s.open() // what was in the way may be gone
	}

	if s.file == nil {
		return
	}

	if err := s.append(entries); err != nil {
		s.warn("the history cannot be written: entries are lost", err)

		return
	}

	s.told = ""

	if s.index.wasteful() {
		if err := s.rewrite(); err != nil {
			s.warn("the history cannot be written anew without what is over its bounds", err)
			s.open()
		}
	}
}

// intact reports whether the file is as long as it was left. The lock is held.
func (s *Store) intact() bool {
	if s.file == nil {
		return false
	}

	info, err := s.file.Stat()

	return err == nil && info.Size() == s.index.end
}

// append writes entries at the end. The lock is held.
func (s *Store) append(entries []Entry) error {
	var text []byte

	for i := range entries {
		line, err := encode(&entries[i])
		if err != nil {
			return err
		}

		text = append(text, line...)
	}

	end := s.index.end

	_, err := s.file.WriteAt(text, end)
	if err == nil {
		err = s.file.Sync()
	}

	if err != nil {
		// Half an entry would be damage. If this fails as well, the next write covers it.
		return errors.Join(err, s.file.Truncate(end))
	}

	return s.index.add(text, s.Config)
}

// Of returns the entries of a target that were written, the newest first, at most limit.
// One that cannot be read any more is left out, with a warning.
func (s *Store) Of(source, cluster string, limit int) ([]Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.file == nil {
		return nil, fmt.Errorf("the history cannot be used: %w", s.fault)
	}

	var entries []Entry

	for _, at := range slices.Backward(s.index.of(source, cluster)) {
		if len(entries) == limit {
			break
		}

		entry, err := at.decode(s.file)
		if err != nil {
			s.warn("an entry of the history is left out", err)

			continue
		}

		entries = append(entries, entry)
	}

	return entries, nil
}
