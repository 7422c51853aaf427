package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	gosync "sync"
)

const (
	// notesFolder, in a directory, holds a note for each cluster of what was written.
	notesFolder = ".omni-syncd"
	noteSuffix  = ".json"
	tempSuffix  = ".tmp"
	// maxNote is how large a note may be, in bytes.
	maxNote = 64 << 10
)

// The endings of the files of a cluster.
const (
	kubeconfigSuffix  = ".kubeconfig"
	talosconfigSuffix = ".talosconfig"
)

// Directory is a [Store] in a folder: <cluster>.kubeconfig and <cluster>.talosconfig, for
// their owner only (0600). Files appear and change as a whole.
//
// A note of every file that it writes, with its digest, is in the folder .omni-syncd. What
// has no note, or is not what was written any more, is somebody else's: it is neither
// replaced nor removed.
//
// One process uses a directory at a time.
type Directory struct {
	path string
	root *os.Root
	lock *os.File
	mu   gosync.Mutex
}

// note says what was written for a cluster: the digests of each file. There are two while
// a file is being replaced, and after that was cut off.
type note struct {
	Files map[string][]string `json:"files"`
}

// clusterName is what may be the name of a file on every system, and never leads elsewhere.
var clusterName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$`)

func checkCluster(cluster string) error {
	if !clusterName.MatchString(cluster) {
		return fmt.Errorf("the cluster %.300q has a name that is no file name: it gets no files", cluster)
	}

	return nil
}

// List implements [Store].
func (d *Directory) List(context.Context) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()

	folder, err := d.root.Open(notesFolder)
	if err != nil {
		return nil, err
	}
	defer folder.Close() //nolint:errcheck // only read from

	names, err := folder.Readdirnames(-1)
	if err != nil {
		return nil, err
	}

	var clusters []string

	for _, name := range names {
		if cluster, ok := strings.CutSuffix(name, noteSuffix); ok && checkCluster(cluster) == nil {
			clusters = append(clusters, cluster)
		}
	}

	slices.Sort(clusters)

	return clusters, nil
}

// Check implements [Store].
func (d *Directory) Check(_ context.Context, cluster string) (Room, error) {
	if err := checkCluster(cluster); err != nil {
		return Room{}, err
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	before, err := d.readNote(cluster)
	if err != nil {
		return Room{}, err
	}

	var foreign error

	free := func(name string) bool {
		now, failed := d.digestOf(name)
		if failed != nil {
			err = errors.Join(err, failed)
		} else if now != "" && !slices.Contains(before.Files[name], now) {
			foreign = errors.Join(foreign, &ForeignError{filepath.Join(d.path, name), "move it away"})

			return false
		}

		return true
	}

	room := Room{Kubeconfig: free(cluster + kubeconfigSuffix), Talosconfig: free(cluster + talosconfigSuffix)}

	if err != nil {
		return Room{}, err
	}

	return room, foreign
}

// Put implements [Store]. A file that is somebody else's does not keep the other one from
// being written.
func (d *Directory) Put(_ context.Context, cluster string, configs Configs) error {
	if err := checkCluster(cluster); err != nil {
		return err
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	foreign, err := d.bring(cluster, map[string][]byte{
		cluster + kubeconfigSuffix:  configs.Kubeconfig,
		cluster + talosconfigSuffix: configs.Talosconfig,
	})

	if err != nil {
		return err
	}

	return foreign
}

// Remove implements [Store]. A file that is somebody else's by now is a [ForeignError],
// once: after that nothing is remembered of it.
func (d *Directory) Remove(_ context.Context, cluster string) error {
	if checkCluster(cluster) != nil {
		return nil // it never got files
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	foreign, err := d.bring(cluster, map[string][]byte{cluster + kubeconfigSuffix: nil, cluster + talosconfigSuffix: nil})
	if err != nil {
		return err
	}

	if err := ignoring(fs.ErrNotExist, d.root.Remove(d.notePath(cluster))); err != nil {
		return err
	}

	return foreign
}

// bring makes the files of a cluster what they should be; nil is none. What is somebody
// else's is reported apart from what failed.
func (d *Directory) bring(cluster string, want map[string][]byte) (foreign, failed error) {
	before, err := d.readNote(cluster)
	if err != nil {
		return nil, err
	}

	var (
		errs  []error
		next  = note{Files: map[string][]string{}}
		write []string
		drop  []string
	)

	for _, name := range slices.Sorted(maps.Keys(want)) {
		data := want[name]
		now, err := d.digestOf(name)

		switch ours := slices.Contains(before.Files[name], now); {
		case err != nil:
			errs = append(errs, err)
			next.Files[name] = before.Files[name]
		case now != "" && !ours && (data != nil || len(before.Files[name]) > 0):
			foreign = errors.Join(foreign, &ForeignError{filepath.Join(d.path, name), "move it away"})

			if len(before.Files[name]) > 0 {
				next.Files[name] = before.Files[name] // it is ours again if it is put back
			}
		case now == "" && data == nil, now != "" && !ours: // nothing is there that concerns us
		case data == nil:
			drop = append(drop, name)
			next.Files[name] = []string{now}
		case now == digest(data):
			next.Files[name] = []string{now}
		default:
			write = append(write, name)
			next.Files[name] = []string{digest(data)}

			if now != "" {
				next.Files[name] = append(next.Files[name], now)
			}
		}
	}

	// The note goes first: whenever this is cut off, what is there is known to be ours.
	if !sameFiles(before, next) {
		if err := d.writeNote(cluster, next); err != nil {
			return foreign, errors.Join(append(errs, err)...)
		}
	}

	for _, name := range write {
		errs = append(errs, d.replace(name, want[name]))
	}

	for _, name := range drop {
		errs = append(errs, ignoring(fs.ErrNotExist, d.root.Remove(name)))
	}

	return foreign, errors.Join(errs...)
}

func sameFiles(a, b note) bool {
	if len(a.Files) != len(b.Files) {
		return false
	}

	for name, digests := range a.Files {
		if other, ok := b.Files[name]; !ok || !slices.Equal(digests, other) {
			return false
		}
	}

	return true
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)

	return "sha256:" + hex.EncodeToString(sum[:])
}

// odd is the digest of what can be none of our files: a folder, a link, something large.
const odd = "odd"

// digestOf returns the digest of a file; "" if there is none.
func (d *Directory) digestOf(name string) (string, error) {
	info, err := d.root.Lstat(name)

	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular(), info.Size() > MaxFile:
		return odd, nil
	}

	data, err := d.root.ReadFile(name)
	if err != nil {
		return "", err
	}

	return digest(data), nil
}

// replace puts data in the place of a file, as a whole.
func (d *Directory) replace(name string, data []byte) (err error) {
	temp := filepath.Join(notesFolder, filepath.Base(name)+tempSuffix)

	// One is there if this was cut off before.
	if err := ignoring(fs.ErrNotExist, d.root.Remove(temp)); err != nil {
		return err
	}

	file, err := d.root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, newFile)
	if err != nil {
		return err
	}

	defer func() {
		if err != nil {
			err = errors.Join(err, ignoring(fs.ErrClosed, file.Close()), ignoring(fs.ErrNotExist, d.root.Remove(temp)))
		}
	}()

	if _, err := file.Write(data); err != nil {
		return err
	}

	if err := errors.Join(file.Chmod(newFile), file.Sync(), file.Close()); err != nil {
		return err
	}

	if err := d.root.Rename(temp, name); err != nil {
		return err
	}

	if folder, err := d.root.Open(filepath.Dir(name)); err == nil {
		_ = folder.Sync() // durable, where the system has that
		_ = folder.Close()
	}

	return nil
}

func (d *Directory) notePath(cluster string) string {
	return filepath.Join(notesFolder, cluster+noteSuffix)
}

func (d *Directory) readNote(cluster string) (note, error) {
	var n note

	file, err := d.root.Open(d.notePath(cluster))
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}

	if err != nil {
		return n, err
	}
	defer file.Close() //nolint:errcheck // only read from

	data, err := io.ReadAll(io.LimitReader(file, maxNote))
	if err == nil {
		err = json.Unmarshal(data, &n)
	}

	if err != nil {
		path := filepath.Join(d.path, d.notePath(cluster))

		return n, fmt.Errorf("the note of what was written for the cluster %s is damaged: remove %s and the files of the cluster beside it: %w", cluster, path, err)
	}

	return n, nil
}

func (d *Directory) writeNote(cluster string, n note) error {
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}

	return d.replace(d.notePath(cluster), append(data, '\n'))
}
