package sync

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"github.com/omni-syncd/omni-syncd/pkg/statefile"
)

// maxSuspensionFile is how large the file is at most, in bytes: four times what as many
// suspensions as there may be take with long reasons.
const maxSuspensionFile = maxSuspensions << 12

// SuspensionFile is the path of a file that holds suspensions between two runs.
type SuspensionFile string

type suspensionFile struct {
	Suspended json.RawMessage `json:"suspended"`
	// Checksum finds what is damaged and can be read all the same: the name of another
	// cluster. Who edits the list removes it.
	Checksum string `json:"checksum,omitempty"`
}

var errNoList = errors.New("there is no list `suspended` in it")

// DecodeSuspensions reads what EncodeSuspensions wrote. An error means that nobody knows what
// is suspended; see [Unreadable].
func DecodeSuspensions(data []byte) ([]Suspension, error) {
	var kept suspensionFile
	if err := decodeStrictly(data, &kept); err != nil {
		return nil, err
	}

	if kept.Suspended == nil {
		return nil, errNoList
	}

	if kept.Checksum != "" && kept.Checksum != checksum(kept.Suspended) {
		return nil, errors.New("the checksum is of another list; if somebody edited it, remove the checksum")
	}

	var all []Suspension
	if err := decodeStrictly(kept.Suspended, &all); err != nil {
		return nil, fmt.Errorf("suspended: %w", err)
	}

	// Nothing suspended is an empty list. `null` and `{}` are nothing that was ever written.
	if all == nil {
		return nil, errNoList
	}

	for i := range all {
		if all[i].Source == "" {
			return nil, fmt.Errorf("suspended[%d] names no source", i)
		}
	}

	return all, nil
}

func decodeStrictly(data []byte, into any) error {
	if len(data) == 0 {
		return errors.New("there is nothing in it")
	}

	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()

	if err := decoder.Decode(into); err != nil {
		return err
	}

	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after its end")
	}

	return nil
}

// EncodeSuspensions writes suspensions for the next run, and for people.
func EncodeSuspensions(all []Suspension) ([]byte, error) {
	if all == nil {
		all = []Suspension{}
	}

	list, err := encodePlainly(all)
	if err != nil {
		return nil, err
	}

	return encodePlainly(suspensionFile{list, checksum(list)})
}

func encodePlainly(value any) ([]byte, error) {
	var data bytes.Buffer

	encoder := json.NewEncoder(&data)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")

	err := encoder.Encode(value)

	return data.Bytes(), err
}

// checksum is that of a list, however it is laid out.
func checksum(list []byte) string {
	var compact bytes.Buffer
	if err := json.Compact(&compact, list); err != nil {
		return ""
	}

	return fmt.Sprintf("%08x", crc32.ChecksumIEEE(compact.Bytes()))
}

// Load returns what the last run kept; nothing if there is no file. With an error it is a
// suspension of everything: what somebody suspended must not be written to because of a
// broken disk.
func (f SuspensionFile) Load() ([]Suspension, error) {
	_, all, err := f.read()
	if err != nil {
		return Unreadable(string(f), err), fmt.Errorf("%s tells what is suspended, and cannot be read (%w): mend it, or remove it to resume everything", f, err)
	}

	return all, nil
}

// read returns what is in the file, too, as far as that can be read.
func (f SuspensionFile) read() (data []byte, all []Suspension, err error) {
	file, err := statefile.Open(string(f), os.O_RDONLY)

	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	}
	defer file.Close() //nolint:errcheck // only read from

	data, err = io.ReadAll(io.LimitReader(file, maxSuspensionFile+1))

	switch {
	case err != nil:
		return nil, nil, err
	case len(data) > maxSuspensionFile:
		return nil, nil, fmt.Errorf("it is larger than %d bytes", maxSuspensionFile)
	}

	all, err = DecodeSuspensions(data)

	return data, all, err
}

// Keep writes the file. It is on the disk, as a whole, when that returns. Of one that cannot
// be read a copy stays: it may be the only trace of what was suspended.
func (f SuspensionFile) Keep(all []Suspension) error {
	data, err := EncodeSuspensions(all)
	if err != nil {
		return err
	}

	if len(data) > maxSuspensionFile {
		return fmt.Errorf("the file would have %d bytes, which is more than %d; resume some of them", len(data), maxSuspensionFile)
	}

	switch before, _, err := f.read(); {
	case err != nil && before == nil:
		return fmt.Errorf("%s cannot be read and not be copied, so it is not replaced (%w): move it away", f, err)
	case err != nil:
		if _, err := statefile.CopyAside(string(f), before); err != nil {
			return fmt.Errorf("%s cannot be read, and cannot be put aside: %w", f, err)
		}
	}

	return statefile.Replace(string(f), func(w io.Writer) error {
		_, err := w.Write(data)

		return err
	})
}
