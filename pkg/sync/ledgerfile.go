package sync

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/omni-syncd/omni-syncd/pkg/statefile"
)

// maxLedgerFile is how large the file is at most, in bytes (G12).
const maxLedgerFile = 16 << 20

// LedgerFile is a file that holds a [Ledger] between two runs.
type LedgerFile struct {
	Path string

	mu sync.Mutex
}

type ledgerFile struct {
	Deletions json.RawMessage `json:"deletions"`
	Checksum  string          `json:"checksum"`
}

// DecodeLedger reads what EncodeLedger wrote.
func DecodeLedger(data []byte) (Ledger, error) {
	var kept ledgerFile
	if err := decodeStrictly(data, &kept); err != nil {
		return Ledger{}, err
	}

	if kept.Checksum != checksum(kept.Deletions) || kept.Checksum == "" {
		return Ledger{}, errors.New("the checksum is of something else")
	}

	var ledger Ledger

	return ledger, decodeStrictly(kept.Deletions, &ledger)
}

// EncodeLedger writes a ledger for the next run.
func EncodeLedger(ledger Ledger) ([]byte, error) {
	deletions, err := encodePlainly(ledger)
	if err != nil {
		return nil, err
	}

	return encodePlainly(ledgerFile{deletions, checksum(deletions)})
}

// Load returns what the last run kept; nothing if there is no file. One that cannot be read is put aside, and then nobody
// knows what was deleted: see [LostLedger]. The error tells of that.
func (f *LedgerFile) Load() (Ledger, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.load()
}

func (f *LedgerFile) load() (Ledger, error) {
	ledger, err := f.read()
	if err == nil {
		return ledger, nil
	}

	err = fmt.Errorf("%s tells what was deleted lately, and cannot be read (%w): nothing is deleted by itself for a while", f.Path, err)

	aside, asideErr := statefile.PutAside(f.Path)
	if asideErr != nil {
		return LostLedger(), errors.Join(err, asideErr)
	}

	// From now on that is known after another restart, too.
	return LostLedger(), errors.Join(fmt.Errorf("%w; it is %s now", err, aside), f.write(LostLedger()))
}

func (f *LedgerFile) read() (Ledger, error) {
	file, err := statefile.Open(f.Path, os.O_RDONLY)

	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Ledger{}, nil
	case err != nil:
		return Ledger{}, err
	}
	defer file.Close() //nolint:errcheck // only read from

	data, err := io.ReadAll(io.LimitReader(file, maxLedgerFile+1))

	switch {
	case err != nil:
		return Ledger{}, err
	case len(data) > maxLedgerFile:
		return Ledger{}, fmt.Errorf("it is larger than %d bytes", maxLedgerFile)
	}

	return DecodeLedger(data)
}

func (f *LedgerFile) write(ledger Ledger) error {
	data, err := EncodeLedger(ledger)
	if err != nil {
		return err
	}

	return statefile.Replace(f.Path, func(w io.Writer) error {
		_, err := w.Write(data)

		return err
	})
}

// Keep replaces what is in the file by what update makes of it. It is on the disk, as a whole, when that returns.
func (f *LedgerFile) Keep(update func(kept Ledger) Ledger) error {
	f.mu.Lock()
	defer f.mu.Unlock()

	kept, err := f.read()
	if err != nil {
		kept, _ = f.load() // puts it aside
	}

	return f.write(update(kept))
}
