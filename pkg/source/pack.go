package source

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // Git's object format
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// Bounds on what a pack may hold. They are checked before go-git reads it, because
// go-git reserves memory for whatever the pack says about itself.
const (
	// maxObjects bounds the objects of a pack: files, folders and the commit.
	maxObjects = 1_000_000
	// maxObjectSize bounds one object when it is unpacked. It is GitHub's limit for a
	// file, too.
	maxObjectSize = 100 << 20
	// maxUnpacked bounds all objects of a pack together: zeros pack a thousand to one.
	maxUnpacked = 8 << 30
	// maxChain bounds the objects that have to be in memory at once because each is a
	// delta of the one before.
	maxChain = 512 << 20
)

// limits bounds a pack while it comes in.
type limits struct {
	size     int64             // bytes
	progress func(text string) // called now and then; may be nil
}

// incoming is the pattern of files that are not complete yet.
const incoming = "incoming-*"

// receivePack stores the pack that r delivers in folder (objects/pack of a
// repository) together with its index. Nothing is left behind when it fails.
//
// The pack may be thin: base has the objects that it leaves out.
func receivePack(ctx context.Context, folder string, r io.Reader, base objectReader, lim limits) error {
	file, index, sum, err := spoolPack(ctx, folder, r, base, lim)
	if err != nil {
		return err
	}

	defer os.Remove(file.Name())

	// The pack itself appears last: an index without pack is ignored, a pack without
	// index is an error to go-git.
	name := filepath.Join(folder, "pack-"+sum.String())
	if err = writeIndex(name+".idx", index); err != nil {
		file.Close()

		return fmt.Errorf("store the index of the fetched objects: %w", err)
	}

	if err = errors.Join(file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), name+".pack")
	}

	if err != nil {
		return fmt.Errorf("store the fetched objects: %w", err)
	}

	return nil
}

// spoolPack writes the pack that r delivers to a new file, checks it and indexes it.
// The caller closes and removes the file.
func spoolPack(ctx context.Context, folder string, r io.Reader, base objectReader, lim limits) (_ *os.File, _ *idxfile.MemoryIndex, sum plumbing.Hash, err error) {
	file, err := os.CreateTemp(folder, incoming)
	if err != nil {
		return nil, nil, sum, fmt.Errorf("store the fetched objects: %w", err)
	}

	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
		}
	}()

	if _, err = io.Copy(file, &packReader{ctx: ctx, r: r, limits: lim}); err != nil {
		return nil, nil, sum, fmt.Errorf("receive objects: %w", err)
	}

	missing, err := checkPack(bound{ctx, file})
	if err != nil {
		return nil, nil, sum, err
	}

	if err = completePack(file, missing, base); err != nil {
		return nil, nil, sum, fmt.Errorf("complete the fetched pack: %w", err)
	}

	index, sum, err := indexPack(bound{ctx, file})
	if err != nil && ctx.Err() != nil {
		return nil, nil, sum, ctx.Err()
	}

	if err != nil {
		return nil, nil, sum, fmt.Errorf("the fetched pack is damaged: %w", err)
	}

	return file, index, sum, nil
}

// bound ends reading with a context: a small pack may take long to unpack.
type bound struct {
	ctx context.Context //nolint:containedctx // it lives for one call
	io.ReadSeeker
}

func (b bound) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}

	return b.ReadSeeker.Read(p)
}

// checkPack refuses a pack whose content is out of bounds. It returns the objects
// that others in the pack are deltas of, by ID.
func checkPack(file io.ReadSeeker) (bases []plumbing.Hash, err error) {
	defer func() {
		if err != nil && !errors.Is(err, errTooMuch) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("the fetched pack is damaged: %w", err)
		}
	}()

	if _, err = file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}

	scanner := packfile.NewScanner(file)

	_, count, err := scanner.Header()
	if err != nil {
		return nil, err
	}

	if count > maxObjects {
		return nil, fmt.Errorf("%w: the fetch has %d objects, the limit is %d: use a smaller repository", errTooMuch, count, maxObjects)
	}

	seen := map[plumbing.Hash]bool{}
	memory := chains{}

	var unpacked int64

	for range count {
		header, err := scanner.NextObjectHeader()
		if err != nil {
			return nil, err
		}

		if header.Length > maxObjectSize {
			return nil, tooLarge(header.Length)
		}

		if unpacked += header.Length; unpacked > maxUnpacked {
			return nil, fmt.Errorf("%w: the fetch unpacks to more than %s: use a smaller repository", errTooMuch, mebibytes(maxUnpacked))
		}

		var start prefix // a delta starts with two numbers: the sizes of its base and its result
		if _, _, err = scanner.NextObject(&start); err != nil {
			return nil, err
		}

		if !header.Type.IsDelta() {
			continue
		}

		_, n := binary.Uvarint(start)
		if n <= 0 {
			return nil, errors.New("a delta has no size")
		}

		size, n := binary.Uvarint(start[n:])
		if n <= 0 || size > maxObjectSize {
			return nil, tooLarge(int64(size)) //nolint:gosec // only shown
		}

		if memory.add(header, int64(size)) > maxChain { //nolint:gosec // checked above
			return nil, fmt.Errorf("%w: the fetch holds versions of large files that need more than %s at once: remove them or store them with Git LFS",
				errTooMuch, mebibytes(maxChain))
		}

		if header.Type == plumbing.REFDeltaObject && !seen[header.Reference] {
			seen[header.Reference] = true
			bases = append(bases, header.Reference)
		}
	}

	return bases, nil
}

// chains counts what the deltas of a pack need in memory, by the place of the delta. A
// delta of an object by ID may be one of any other such: they count together.
type chains struct {
	byOffset map[int64]int64
	byID     int64
}

// add counts a delta, which unpacks to size, and returns what its chain needs.
func (c *chains) add(delta *packfile.ObjectHeader, size int64) int64 {
	if c.byOffset == nil {
		c.byOffset = map[int64]int64{}
	}

	need := c.byOffset[delta.OffsetReference] + size

	if delta.Type == plumbing.REFDeltaObject {
		c.byID += size
		need = c.byID
	}

	c.byOffset[delta.Offset] = need

	return need
}

var errTooMuch = errors.New("refused")

// completePack appends those bases of a thin pack that we have, and with that makes
// it a pack that can be read on its own. A server sends a thin pack when it knows
// what we have: of a large file only what changed.
func completePack(file *os.File, bases []plumbing.Hash, from objectReader) error {
	end, err := file.Seek(-sha1.Size, io.SeekEnd) // over the checksum
	if err != nil {
		return err
	}

	var added uint32

	entries := packEntries{w: file}

	for _, id := range bases {
		obj, err := from.get(id)
		if err != nil {
			continue // it is in the pack; if not, indexing fails
		}

		if added++; added == 1 {
			if err = file.Truncate(end); err != nil {
				return err
			}
		}

		if err = entries.write(obj); err != nil {
			return err
		}
	}

	if added == 0 {
		return nil
	}

	var count [4]byte
	if _, err = file.ReadAt(count[:], 8); err != nil {
		return err
	}

	binary.BigEndian.PutUint32(count[:], binary.BigEndian.Uint32(count[:])+added)

	if _, err = file.WriteAt(count[:], 8); err != nil {
		return err
	}

	hash := sha1.New() //nolint:gosec // Git's object format
	if _, err = io.Copy(hash, io.NewSectionReader(file, 0, math.MaxInt64)); err != nil {
		return err
	}

	_, err = file.Write(hash.Sum(nil))

	return err
}

func tooLarge(size int64) error {
	return fmt.Errorf("%w: the repository holds a file of %s, the limit is %s: remove it or store it with Git LFS",
		errTooMuch, mebibytes(size), mebibytes(maxObjectSize))
}

// prefix keeps the first bytes of what is written to it.
type prefix []byte

func (p *prefix) Write(b []byte) (int, error) {
	if room := 2*binary.MaxVarintLen64 - len(*p); room > 0 {
		*p = append(*p, b[:min(room, len(b))]...)
	}

	return len(b), nil
}

func indexPack(file io.ReadSeeker) (*idxfile.MemoryIndex, plumbing.Hash, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, plumbing.ZeroHash, err
	}

	var writer idxfile.Writer

	parser, err := packfile.NewParser(packfile.NewScanner(file), &writer)
	if err != nil {
		return nil, plumbing.ZeroHash, err
	}

	sum, err := parser.Parse()
	if err != nil {
		return nil, plumbing.ZeroHash, err
	}

	index, err := writer.Index()

	return index, sum, err
}

func writeIndex(name string, index *idxfile.MemoryIndex) error {
	var buf bytes.Buffer
	if _, err := idxfile.NewEncoder(&buf).Encode(index); err != nil {
		return err
	}

	file, err := os.Create(name)
	if err != nil {
		return err
	}

	_, err = buf.WriteTo(file)

	return errors.Join(err, file.Sync(), file.Close())
}

// verifyPack compares a pack with the checksum at its end.
func verifyPack(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()

	info, err := file.Stat()
	if err != nil {
		return err
	}

	hash := sha1.New() //nolint:gosec // Git's object format
	if info.Size() < int64(hash.Size()) {
		return errors.New("pack is cut short")
	}

	if _, err = io.CopyN(hash, file, info.Size()-int64(hash.Size())); err != nil {
		return err
	}

	sum, err := io.ReadAll(file)
	if err != nil {
		return err
	}

	if !bytes.Equal(sum, hash.Sum(nil)) {
		return errors.New("pack has a wrong checksum")
	}

	return nil
}

// packReader bounds an incoming pack, ends with the context and tells the progress.
type packReader struct {
	ctx context.Context //nolint:containedctx // lives as long as one call
	r   io.Reader
	limits

	read, told int64
}

func (p *packReader) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}

	n, err := p.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, errors.New(clean(err.Error())) // may be the server's words
	}

	if p.read += int64(n); p.read > p.size {
		return 0, fmt.Errorf("the fetch is larger than the limit of %s: raise the limit or use a smaller repository", mebibytes(p.size))
	}

	const step = 256 << 10
	if p.progress != nil && p.read-p.told >= step {
		p.told = p.read
		p.progress("received " + mebibytes(p.read))
	}

	return n, err
}
