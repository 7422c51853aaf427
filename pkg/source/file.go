package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

type fileInfo struct {
	name string
	size int64
	mode fs.FileMode
	time time.Time
	node *node
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return i.mode }
func (i fileInfo) ModTime() time.Time { return i.time }
func (i fileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }

// Same reports whether the other one describes the same place in the same tree, as
// os.SameFile does for files on a disk.
func (i fileInfo) Same(other fs.FileInfo) bool {
	o, ok := other.(fileInfo)

	return ok && o.node == i.node
}

// dirEntry is a node under its name in a folder. The two differ for a link that is
// listed as the file it points to.
type dirEntry struct {
	tree   *tree
	name   string
	node   *node
	linked bool // a link stands here, although node may be the file that it leads to
}

func (e *dirEntry) Name() string               { return e.name }
func (e *dirEntry) IsDir() bool                { return e.node.mode.IsDir() }
func (e *dirEntry) Type() fs.FileMode          { return e.node.mode.Type() }
func (e *dirEntry) Info() (fs.FileInfo, error) { return e.tree.stat(e.name, e.node) }
func (e *dirEntry) String() string             { return fs.FormatDirEntry(e) }

// Digest stands for the content, as [tree.Digest] does, without the way to it. With Linked it makes a template.Entry.
func (e *dirEntry) Digest() string { return e.tree.content.digest(e.node) }
func (e *dirEntry) Linked() bool   { return e.linked }

type openFile struct {
	*bytes.Reader

	info fileInfo
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type openDir struct {
	info    fileInfo
	entries []fs.DirEntry // not read yet
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: errors.New("is a directory")}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}

	n = min(n, len(d.entries))
	entries := d.entries[:n:n]
	d.entries = d.entries[n:]

	return entries, nil
}
