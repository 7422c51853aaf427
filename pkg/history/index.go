package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"
)

// The file is a text. Its first line is the header; every other one is an entry in JSON
// after its checksum. Nothing in it points to anything else in it and each line is checked
// by itself, so no damage can do more than lose the lines that it is in.
const (
	header = "omni-syncd history 1\n"
	// sumLength is how long a checksum is, with the space behind it.
	sumLength = 9
	// minWaste is how large a file is at least before it is written anew.
	minWaste = 1 << 20
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errNoHistory = errors.New("it is not a history of this version of omni-syncd")
	errDamaged   = errors.New("an entry is damaged")
)

// span is where a line is.
type span struct {
	at   int64
	size int
}

// target is what there is of a target.
type target struct {
	entries []span // the oldest first
	bytes   int64
	changed time.Time
}

// index is what is in a file, within the bounds. The zero index is that of no file.
type index struct {
	targets map[string]*target
	end     int64 // of the file
	live    int64 // bytes of the entries that count
}

// key names a target. Neither part can hold a zero byte: both are checked names.
func key(source, cluster string) string { return source + "\x00" + cluster }

func (x *index) of(source, cluster string) []span {
	if t := x.targets[key(source, cluster)]; t != nil {
		return t.entries
	}

	return nil
}

func (x *index) entries() (n int) {
	for _, t := range x.targets {
		n += len(t.entries)
	}

	return n
}

// wasteful reports whether most of the file does not count any more.
func (x *index) wasteful() bool { return x.end > minWaste && x.end > 2*x.live }

// read makes the index of a file. An error says what is damaged; what is not is in the
// index all the same.
func (x *index) read(file *os.File, cfg Config) error {
	*x = index{}

	info, err := file.Stat()

	switch {
	case err != nil:
		return err
	case info.Size() > 4*cfg.Bytes+minWaste:
		return fmt.Errorf("it has %d bytes, which is more than it can have", info.Size())
	}

	lines := bufio.NewReaderSize(file, maxLine)

	first, err := lines.ReadSlice('\n')
	if string(first) != header {
		return errors.Join(errNoHistory, unlessEnd(err))
	}

	x.end = int64(len(header))

	var (
		damage error
		long   bool // what comes is the rest of a line that is too long
	)

	for {
		line, err := lines.ReadSlice('\n')

		switch {
		case errors.Is(err, bufio.ErrBufferFull), err == nil && long:
			damage, long = errDamaged, err != nil
			x.end += int64(len(line))
		case err == nil:
			if err = x.add(line, cfg); err != nil {
				damage = err
			}
		case len(line) > 0:
			return errors.Join(errDamaged, unlessEnd(err))
		default:
			return errors.Join(damage, unlessEnd(err))
		}
	}
}

func unlessEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) {
		return nil
	}

	return err
}

// add adds whole lines that are at the end of the file. An error says that some are
// damaged.
func (x *index) add(text []byte, cfg Config) (damage error) {
	for line := range bytes.Lines(text) {
		at := span{x.end, len(line)}
		x.end += int64(len(line))

		var about struct {
			Source  string
			Cluster string
			Ended   time.Time
		}

		if err := decode(line, &about); err != nil {
			damage = err

			continue
		}

		x.put(key(about.Source, about.Cluster), at, about.Ended, cfg)
	}

	return damage
}

// put adds one entry and forgets what is over the bounds.
func (x *index) put(name string, at span, when time.Time, cfg Config) {
	t := x.targets[name]
	if t == nil {
		if x.targets == nil {
			x.targets = map[string]*target{}
		}

		t = &target{}
		x.targets[name] = t
	}

	t.entries, t.changed = append(t.entries, at), when
	t.bytes += int64(at.size)
	x.live += int64(at.size)

	if over := len(t.entries) - cfg.PerTarget; over > 0 {
		for _, gone := range t.entries[:over] {
			t.bytes -= int64(gone.size)
			x.live -= int64(gone.size)
		}

		t.entries = t.entries[over:]
	}

	for len(x.targets) > cfg.Targets || x.live > cfg.Bytes && len(x.targets) > 1 {
		x.forgetOldest(name)
	}
}

// forgetOldest forgets the target that changed least recently, and not the one that just did.
func (x *index) forgetOldest(except string) {
	oldest := ""

	for name, t := range x.targets {
		if name != except && (oldest == "" || t.changed.Before(x.targets[oldest].changed)) {
			oldest = name
		}
	}

	x.live -= x.targets[oldest].bytes
	delete(x.targets, oldest)
}

// copy writes a file with what is in the index and nothing else. What cannot be read any
// more is left out: it was told when that was found.
func (x *index) copy(to io.Writer, from *os.File) error {
	if _, err := io.WriteString(to, header); err != nil {
		return err
	}

	for _, t := range x.targets {
		for _, at := range t.entries {
			line, err := at.read(from)
			if err != nil || decode(line, new(struct{})) != nil {
				continue
			}

			if _, err := to.Write(line); err != nil {
				return err
			}
		}
	}

	return nil
}

// read returns a line.
func (at span) read(from *os.File) ([]byte, error) {
	line := make([]byte, at.size)
	_, err := from.ReadAt(line, at.at)

	return line, err
}

// decode returns the entry of a line.
func (at span) decode(from *os.File) (entry Entry, err error) {
	line, err := at.read(from)
	if err != nil {
		return entry, err
	}

	return entry, decode(line, &entry)
}

// encode returns the line of an entry.
func encode(entry *Entry) ([]byte, error) {
	data, err := json.Marshal(entry)
	if err != nil {
		return nil, err
	}

	if len(data) >= maxLine-sumLength {
		less := *entry
		less.Operations, less.Omitted = nil, entry.Omitted+len(entry.Operations)

		if data, err = json.Marshal(less); err != nil || len(data) >= maxLine-sumLength {
			return nil, errors.Join(err, fmt.Errorf("an entry has more than %d bytes", maxLine))
		}
	}

	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(data, castagnoli), data), nil
}

// decode checks a line and decodes the entry that is in it.
func decode(line []byte, into any) error {
	data, whole := bytes.CutSuffix(line, []byte("\n"))
	if !whole || len(data) < sumLength {
		return errDamaged
	}

	sum, data := data[:sumLength], data[sumLength:]
	if string(sum) != fmt.Sprintf("%08x ", crc32.Checksum(data, castagnoli)) {
		return errDamaged
	}

	return json.Unmarshal(data, into)
}
