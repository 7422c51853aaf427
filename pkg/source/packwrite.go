package source

import (
	"compress/zlib"
	"crypto/sha1" //nolint:gosec // Git's object format
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
)

// writePack writes objects as a pack, one after the other and without deltas: it is
// read once, by receivePack. (go-git's own encoder holds all objects in memory.)
func writePack(w io.Writer, objects []plumbing.Hash, get func(plumbing.Hash) (plumbing.EncodedObject, error)) error {
	hash := sha1.New() //nolint:gosec // Git's object format
	out := io.MultiWriter(w, hash)

	head := binary.BigEndian.AppendUint32([]byte("PACK"), 2)
	if _, err := out.Write(binary.BigEndian.AppendUint32(head, uint32(len(objects)))); err != nil { //nolint:gosec // at most maxObjects
		return err
	}

	entries := packEntries{w: out}

	for _, id := range objects {
		obj, err := get(id)
		if err != nil {
			return fmt.Errorf("read object %s: %w", id, err)
		}

		if err = entries.write(obj); err != nil {
			return err
		}
	}

	_, err := w.Write(hash.Sum(nil))

	return err
}

// packEntries writes objects as they stand in a pack. One compressor does for all of
// them: a new one takes more than a megabyte, and objects may be many and small.
type packEntries struct {
	w       io.Writer
	deflate *zlib.Writer
}

// write refuses what receivePack would refuse, before it is compressed to be sent there.
func (p *packEntries) write(obj plumbing.EncodedObject) error {
	if obj.Size() > maxObjectSize {
		return tooLarge(obj.Size())
	}

	if _, err := p.w.Write(packHeader(obj.Type(), obj.Size())); err != nil {
		return err
	}

	if p.deflate == nil {
		deflate, err := zlib.NewWriterLevel(p.w, zlib.BestSpeed)
		if err != nil {
			return err
		}

		p.deflate = deflate
	} else {
		p.deflate.Reset(p.w)
	}

	r, err := obj.Reader()
	if err != nil {
		return err
	}

	_, err = io.Copy(p.deflate, r)

	return errors.Join(err, r.Close(), p.deflate.Close())
}

// packHeader is an object's type and size: four bits of the size beside the type,
// then seven bits a byte.
func packHeader(typ plumbing.ObjectType, size int64) []byte {
	first := byte(typ)<<4 | byte(size&0xf)
	if size >>= 4; size == 0 {
		return []byte{first}
	}

	return binary.AppendUvarint([]byte{first | 0x80}, uint64(size)) //nolint:gosec // sizes are positive
}
