package sync

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/renameio/v2/maybe"
)

// maxSuspensionFile is how large the file is at most, in bytes: four times what as many
// suspensions as there may be take with long reasons.
const maxSuspensionFile = maxSuspensions << 12

// SuspensionFile is the path of a file that holds suspensions between two runs.
type SuspensionFile string

type suspensionFile struct {
	Suspended []Suspension `json:"suspended"`
}

// DecodeSuspensions reads what EncodeSuspensions wrote.
func DecodeSuspensions(data []byte) ([]Suspension, error) {
	var kept suspensionFile

	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()

	err := decoder.Decode(&kept)

	return kept.Suspended, err
}

// EncodeSuspensions writes suspensions for the next run, and for people.
func EncodeSuspensions(all []Suspension) ([]byte, error) {
	var data bytes.Buffer

	encoder := json.NewEncoder(&data)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")

	err := encoder.Encode(suspensionFile{all})

	return data.Bytes(), err
}

// Load returns what the last run kept; nothing if there is no file. A file that cannot be
// read is an error and not an empty one: what somebody suspended must not be written to
// because of a broken disk.
func (f SuspensionFile) Load() ([]Suspension, error) {
	file, err := os.Open(string(f))

	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading what is suspended: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read from

	data, err := io.ReadAll(io.LimitReader(file, maxSuspensionFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading what is suspended: %w", err)
	}

	kept, err := DecodeSuspensions(data)
	if err == nil && len(data) > maxSuspensionFile {
		err = fmt.Errorf("it is larger than %d bytes", maxSuspensionFile)
	}

	if err != nil {
		return nil, fmt.Errorf("%s tells what is suspended, and cannot be read (%w): mend it, or remove it to resume everything", f, err)
	}

	return kept, nil
}

// Keep writes the file. It is on the disk, as a whole, when that returns.
func (f SuspensionFile) Keep(all []Suspension) error {
	data, err := EncodeSuspensions(all)
	if err != nil {
		return err
	}

	if len(data) > maxSuspensionFile {
		return fmt.Errorf("the file would have %d bytes, which is more than %d; resume some of them", len(data), maxSuspensionFile)
	}

	if err := maybe.WriteFile(string(f), data, 0o600); err != nil {
		return err
	}

	if runtime.GOOS == "windows" {
		return nil // it has no such thing as syncing a folder
	}

	// The new name is in the folder when that is on the disk, too.
	folder, err := os.Open(filepath.Dir(string(f)))
	if err != nil {
		return err
	}
	defer folder.Close() //nolint:errcheck // only synced

	return folder.Sync()
}
