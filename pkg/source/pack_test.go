package source

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// pack builds a pack of one object with that header and content.
func pack(count uint32, header, content []byte) []byte {
	var buf bytes.Buffer

	buf.Write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("PACK"), 2), count))
	buf.Write(header)

	w := zlib.NewWriter(&buf)
	w.Write(content) //nolint:errcheck // to memory
	w.Close()        //nolint:errcheck // to memory

	buf.Write(make([]byte, 20))

	return buf.Bytes()
}

// What a pack says about itself is checked before memory is reserved for it.
func TestPackBounds(t *testing.T) {
	delta := binary.AppendUvarint([]byte{1}, maxObjectSize+1)
	ref := append(packHeader(plumbing.REFDeltaObject, int64(len(delta))), make([]byte, 20)...)

	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"count", pack(1<<32-1, nil, nil), "refused: the fetch has 4294967295 objects"},
		{"size", pack(1, packHeader(plumbing.BlobObject, maxObjectSize+1), []byte("x")), "refused: the repository holds a file of 100.0 MiB"},
		{"delta", pack(1, ref, delta), "refused: the repository holds a file of 100.0 MiB"},
		{"more than it says", pack(1, packHeader(plumbing.BlobObject, 10), make([]byte, 1<<20)), "damaged"},
		{"less than it says", pack(1, packHeader(plumbing.BlobObject, 10), []byte("x")), "damaged"},
		{"cut", pack(2, packHeader(plumbing.BlobObject, 1), []byte("x")), "damaged"},
		{"delta of nothing", pack(1, append(packHeader(plumbing.REFDeltaObject, 2), make([]byte, 20)...), []byte{1, 1}), "damaged"},
		{"empty", nil, "damaged"},
		{"no pack", []byte("<html>this is a web page</html>"), "damaged"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats

			dir := t.TempDir()

			runtime.ReadMemStats(&before)

			err := receivePack(t.Context(), dir, bytes.NewReader(test.data), nothing{}, limits{size: 1 << 30})

			runtime.ReadMemStats(&after)

			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}

			if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
				t.Errorf("it took %s", mebibytes(int64(n))) //nolint:gosec // small
			}

			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func FuzzReceivePack(f *testing.F) {
	f.Add(pack(1, packHeader(plumbing.BlobObject, 1), []byte("x")))
	f.Add(pack(1, packHeader(plumbing.TreeObject, 300), make([]byte, 300)))
	f.Add(pack(1, append(packHeader(plumbing.REFDeltaObject, 2), make([]byte, 20)...), []byte{1, 1}))

	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		err := receivePack(t.Context(), dir, bytes.NewReader(data), nothing{}, limits{size: 1 << 20})

		left, readErr := os.ReadDir(dir)
		if readErr != nil {
			t.Fatal(readErr)
		}

		if err != nil && len(left) > 0 {
			t.Errorf("left behind after %v: %v", err, left)
		}
	})
}

// A repository on this machine with many small objects took a megabyte of new memory for
// each of them: 10,000 folders took 80 seconds.
func TestWritePackSmallObjects(t *testing.T) {
	const objects = 1000

	ids := make([]plumbing.Hash, objects)
	get := func(plumbing.Hash) (plumbing.EncodedObject, error) {
		obj := &plumbing.MemoryObject{}
		obj.SetType(plumbing.BlobObject)

		_, err := obj.Write([]byte("small"))

		return obj, err
	}

	var before, after runtime.MemStats

	runtime.ReadMemStats(&before)

	if err := writePack(io.Discard, ids, get); err != nil {
		t.Fatal(err)
	}

	runtime.ReadMemStats(&after)

	if each := (after.TotalAlloc - before.TotalAlloc) / objects; each > 16<<10 {
		t.Errorf("%d bytes of memory for each object", each)
	}
}

// What would be refused is not compressed first: a repository's gigabyte took 43 seconds
// until it was.
func TestWritePackTooLarge(t *testing.T) {
	obj := &plumbing.MemoryObject{}
	obj.SetType(plumbing.BlobObject)
	obj.SetSize(maxObjectSize + 1)

	var written bytes.Buffer

	err := writePack(&written, make([]plumbing.Hash, 1), func(plumbing.Hash) (plumbing.EncodedObject, error) { return obj, nil })
	if !errors.Is(err, errTooMuch) || written.Len() > 12 {
		t.Errorf("%v after %d bytes", err, written.Len())
	}
}
