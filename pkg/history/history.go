// Package history keeps what was applied to Omni: which revision, by whom, with which
// operations, for how long and with what outcome.
//
// It stands beside the flow: sync adds an [Entry] when an operation on a target ends, and
// a server lists them. It is a convenience. Nothing is decided from it, an entry may be
// lost in a crash, and the file may be deleted while nothing runs (G10).
package history

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"go.uber.org/zap"
)

// Bounds (G12).
const (
	// DefaultPerTarget is how many entries of one target are kept.
	DefaultPerTarget = 100
	// DefaultTargets is how many targets are kept; over it, the one goes that changed
	// least recently.
	DefaultTargets = 10_000
	// MaxOperations is how many operations of one entry are kept; Entry.Omitted counts
	// the rest.
	MaxOperations = 200
	// maxText is how many bytes of a message are kept.
	maxText = 4096
	// maxPending is how many entries may wait to be written. More are dropped: history
	// never holds up a sync.
	maxPending = 4096
)

// Outcome is how an operation ended.
type Outcome string

// The outcomes of an operation.
const (
	Succeeded   Outcome = "Succeeded"   // the target is Synced
	Failed      Outcome = "Failed"      // Omni or a check refused it
	Held        Outcome = "Held"        // a lock or a guard stopped it half-way
	Superseded  Outcome = "Superseded"  // a newer revision came
	Interrupted Outcome = "Interrupted" // the daemon was stopped
)

// Operation is one write.
type Operation struct {
	// Action is create, adopt, update, release or destroy.
	Action string `json:"action"`
	// Resource is its kind and name.
	Resource string `json:"resource"`
	// Change says what changed, without any payload; "" where the action says it all.
	Change string `json:"change,omitempty"`
}

// Entry is one operation on a target: all that was written from when the target was found
// to differ until it was Synced, or until that was given up.
type Entry struct {
	Source string `json:"source"`
	// Cluster is "" for the fleet resources of the source.
	Cluster  string `json:"cluster,omitempty"`
	Revision string `json:"revision"`
	// Author and Message are the commit's, if there is one.
	Author  string `json:"author,omitempty"`
	Message string `json:"message,omitempty"`
	// Reason says why something was written: a new revision, or drift.
	Reason  string    `json:"reason"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	Outcome Outcome   `json:"outcome"`
	// Error says why it did not succeed.
	Error      string      `json:"error,omitempty"`
	Operations []Operation `json:"operations,omitempty"`
	// Omitted is how many operations are not listed.
	Omitted int `json:"omitted,omitempty"`
}

// Config says where the history is and how much of it is kept.
type Config struct {
	// Path is the file; its folder is made if missing. Only one process may use it.
	Path string
	// PerTarget and Targets bound what is kept. Zero: the defaults.
	PerTarget, Targets int
	// Logger may be nil.
	Logger *zap.Logger
}

// Store is a history in a file. It is safe for concurrent use.
type Store struct {
	Config

	db      *bbolt.DB
	pending chan Entry
}

// root is the bucket that holds a bucket for each target, by source and cluster. In it are
// the entries by their number.
var root = []byte("targets")

// Open opens the history, or makes a new one. A file that is damaged is put aside. The
// error says who else may use the file.
func Open(cfg Config) (*Store, error) {
	cfg.PerTarget = cmp.Or(cfg.PerTarget, DefaultPerTarget)
	cfg.Targets = cmp.Or(cfg.Targets, DefaultTargets)
	cfg.Logger = cmp.Or(cfg.Logger, zap.NewNop())

	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the history: %w", err)
	}

	db, err := open(cfg.Path)

	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fmt.Errorf("the history %s is in use: another omni-syncd runs with this state directory; stop it, or give this one its own", cfg.Path)
	case err != nil && isDamaged(err):
		cfg.Logger.Warn("the history is damaged: it is put aside and begun anew", zap.String("file", cfg.Path), zap.Error(err))

		if err = os.Rename(cfg.Path, cfg.Path+".damaged"); err != nil {
			return nil, fmt.Errorf("put the damaged history aside: %w", err)
		}

		db, err = open(cfg.Path)
	}

	if err != nil {
		return nil, fmt.Errorf("open the history %s: %w", cfg.Path, err)
	}

	return &Store{Config: cfg, db: db, pending: make(chan Entry, maxPending)}, nil
}

func open(path string) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}

	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(root)

		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}

	return db, nil
}

// isDamaged tells a file that is no history (any more) from one that cannot be opened.
func isDamaged(err error) bool {
	return !errors.Is(err, os.ErrPermission) && (errors.Is(err, bbolterrors.ErrInvalid) || errors.Is(err, bbolterrors.ErrChecksum) ||
		errors.Is(err, bbolterrors.ErrVersionMismatch) || errors.Is(err, bbolterrors.ErrIncompatibleValue))
}

// Add hands an entry over to Run. It never blocks; if Run lags too far behind, the entry
// is dropped with a warning.
func (s *Store) Add(entry Entry) {
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
func (s *Store) Run(ctx context.Context) error {
	for {
		select {
		case entry := <-s.pending:
			s.write(append(s.drain(), entry))
		case <-ctx.Done():
			return s.Close()
		}
	}
}

// Close writes what is pending and closes the file. Run does it, too; a second call does
// nothing.
func (s *Store) Close() error {
	s.write(s.drain())

	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close the history: %w", err)
	}

	return nil
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

func (s *Store) write(entries []Entry) {
	if len(entries) == 0 {
		return
	}

	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Ended.Compare(b.Ended) })

	err := s.db.Update(func(tx *bbolt.Tx) error {
		for i := range entries {
			if err := s.put(tx.Bucket(root), &entries[i]); err != nil {
				return err
			}
		}

		return nil
	})
	if err != nil {
		s.Logger.Warn("the history cannot be written: entries are lost", zap.Int("entries", len(entries)), zap.Error(err))
	}
}

// put adds one entry and removes what is over the bounds.
func (s *Store) put(targets *bbolt.Bucket, entry *Entry) error {
	data, err := json.Marshal(entry)
	if err != nil {
		return err
	}

	name := key(entry.Source, entry.Cluster)
	if targets.Bucket(name) == nil {
		if err := s.makeRoom(targets); err != nil {
			return err
		}
	}

	target, err := targets.CreateBucketIfNotExists(name)
	if err != nil {
		return err
	}

	number, err := target.NextSequence()
	if err != nil {
		return err
	}

	if err := target.Put(binary.BigEndian.AppendUint64(nil, number), data); err != nil {
		return err
	}

	if number <= uint64(s.PerTarget) {
		return nil
	}

	cursor := target.Cursor()
	last := binary.BigEndian.AppendUint64(nil, number-uint64(s.PerTarget))

	for k, _ := cursor.First(); k != nil && slices.Compare(k, last) <= 0; k, _ = cursor.First() {
		if err := cursor.Delete(); err != nil {
			return err
		}
	}

	return nil
}

// makeRoom removes the target that changed least recently if there are too many.
func (s *Store) makeRoom(targets *bbolt.Bucket) error {
	var (
		count  int
		oldest []byte
		when   time.Time
	)

	if err := targets.ForEachBucket(func([]byte) error { count++; return nil }); err != nil || count < s.Targets {
		return err
	}

	err := targets.ForEachBucket(func(name []byte) error {
		_, data := targets.Bucket(name).Cursor().Last()

		var last Entry
		if err := json.Unmarshal(data, &last); err == nil && (oldest == nil || last.Ended.Before(when)) {
			oldest, when = slices.Clone(name), last.Ended
		}

		return nil
	})
	if err != nil || oldest == nil {
		return err
	}

	return targets.DeleteBucket(oldest)
}

// key names a target. Neither part can hold a zero byte: both are checked names.
func key(source, cluster string) []byte { return []byte(source + "\x00" + cluster) }

// Of returns the entries of a target that were written, the newest first, at most limit.
func (s *Store) Of(source, cluster string, limit int) ([]Entry, error) {
	var entries []Entry

	err := s.db.View(func(tx *bbolt.Tx) error {
		target := tx.Bucket(root).Bucket(key(source, cluster))
		if target == nil {
			return nil
		}

		cursor := target.Cursor()
		for k, data := cursor.Last(); k != nil && len(entries) < limit; k, data = cursor.Prev() {
			var entry Entry
			if err := json.Unmarshal(data, &entry); err != nil {
				return fmt.Errorf("an entry of %q cannot be read: %w", cluster, err)
			}

			entries = append(entries, entry)
		}

		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}

	return entries, nil
}
