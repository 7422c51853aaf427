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

	for _, id := range objects {
		obj, err := get(id)
		if err != nil {
			return fmt.Errorf("read object %s: %w", id, err)
		}

		if err = writeObject(out, obj); err != nil {
			return err
		}
	}

	_, err := w.Write(hash.Sum(nil))

	return err
}

// writeObject writes one object as it stands in a pack.
func writeObject(w io.Writer, obj plumbing.EncodedObject) error {
	if _, err := w.Write(packHeader(obj.Type(), obj.Size())); err != nil {
		return err
	}

	deflate, err := zlib.NewWriterLevel(w, zlib.BestSpeed)
	if err != nil {
		return err
	}

	r, err := obj.Reader()
	if err != nil {
		return err
	}

	_, err = io.Copy(deflate, r)

	return errors.Join(err, r.Close(), deflate.Close())
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
