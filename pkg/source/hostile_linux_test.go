package source

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// outcome is what came of reading a repository, and what it took.
type outcome struct {
	Error    string // of the fetch
	Problems []string
	Peak     int64         // bytes of memory at most, of the whole process
	Took     time.Duration // fetch and Find
	Polled   time.Duration // a second fetch, with nothing new
}

// hostileTime bounds everything that is done with a hostile repository here. It is
// generous: two busy cores, and a race detector.
const hostileTime = 2 * time.Minute

// readHostile fetches a repository and looks for templates in it, in a process of its
// own, whose memory is measured.
func readHostile(t *testing.T, url, root string) outcome {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), hostileTime)
	defer cancel()

	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHostileChild$")
	cmd.Env = append(os.Environ(), "SOURCE_TEST_URL="+url, "SOURCE_TEST_ROOT="+root)

	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("after %s: %v\n%s", hostileTime, err, out)
	}

	var o outcome

	_, line, _ := bytes.Cut(out, []byte("outcome "))
	line, _, _ = bytes.Cut(line, []byte("\n"))

	if err = json.Unmarshal(line, &o); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	return o
}

// TestHostileChild is what readHostile runs.
func TestHostileChild(t *testing.T) {
	url := os.Getenv("SOURCE_TEST_URL")
	if url == "" {
		t.Skip("runs for other tests")
	}

	var (
		o     outcome
		g     = NewGit(GitConfig{URL: url, StateDir: t.TempDir(), Timeout: hostileTime})
		start = time.Now()
	)

	rev, err := g.Fetch(t.Context())
	if err != nil {
		o.Error = err.Error()
	} else {
		_, problems := template.Find(rev.FS, template.Scope{Root: os.Getenv("SOURCE_TEST_ROOT")})
		for _, p := range problems[:min(len(problems), 20)] {
			o.Problems = append(o.Problems, p.Error())
		}
	}

	o.Took = time.Since(start)

	if err == nil {
		start = time.Now()

		if _, err = g.Fetch(t.Context()); err != nil {
			t.Error(err)
		}

		o.Polled = time.Since(start)
	}

	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}

	_, peak, _ := strings.Cut(string(status), "VmHWM:")

	kilobytes, err := strconv.ParseInt(strings.Fields(peak)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}

	o.Peak = kilobytes << 10

	line, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}

	fmt.Printf("\noutcome %s\n", line)
}

// raced reports whether the race detector is on: everything takes several times the
// memory then.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" && s.Value == "true" {
			return true
		}
	}

	return false
}

// Repositories that are made to take all memory or all time. Each ends in an error
// that says what is wrong, or is read as what it is.
func TestHostileRepositories(t *testing.T) {
	const mib = 1 << 20

	if testing.Short() {
		t.Skip("takes a minute")
	}

	for _, test := range []struct {
		name string
		make func(t *testing.T) *repo
		want map[string]string // by root; "": no error and no problem
		peak int64             // MiB
	}{
		{"10,000 folders in each other", deepRepo, map[string]string{
			"": "more than 64 folders inside each other",
			strings.TrimSuffix(strings.Repeat("d/", 10_000), "/"): "nested deeper than 128 folders",
		}, 200},
		{"300,000 files in a folder", wideRepo, map[string]string{
			"": "the revision holds more than 200000 files and folders",
		}, 400},
		{"50,000 branches and tags", refsRepo, map[string]string{"": ""}, 200},
		{"aliases to aliases", aliasRepo, map[string]string{"": "more than 250000 nodes once its aliases are expanded"}, 200},
		{"a file of 1 GiB", gibibyteRepo, map[string]string{"": "the repository holds a file of 1024.0 MiB, the limit is 100.0 MiB"}, 200},
		{"a file below the limit of the fetch", largeRepo, map[string]string{"": "the file has 99.0 MiB, more than the limit of 16.0 MiB"}, 1000},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := test.make(t)
			server := serve(t, r)

			for root, want := range test.want {
				for kind, url := range map[string]string{"path": r.dir, "http": server.url(r)} {
					if kind == "path" && root != "" {
						continue // what is fetched is the same
					}

					o := readHostile(t, url, root)
					got := o.Error + strings.Join(o.Problems, "\n")

					t.Logf("%s: at most %d MiB, %s, polled in %s: %.40s … %s", kind, o.Peak/mib,
						o.Took.Round(time.Millisecond), o.Polled.Round(time.Millisecond), got, got[max(0, len(got)-80):])

					if !strings.Contains(got, want) || (got == "") != (want == "") {
						t.Errorf("%s: got %.500q, want %q", kind, got, want)
					}

					if limit := test.peak * mib; o.Peak > limit && !raced() {
						t.Errorf("%s: took %d MiB, want at most %d", kind, o.Peak/mib, test.peak)
					}
				}
			}
		})
	}
}

// A chain of deltas that is a few kilobytes in the pack and gigabytes out of it.
func TestHostileDeltas(t *testing.T) {
	// A repository on this machine is not protected against: who can write it can fill the
	// memory in simpler ways.
	r := deltaRepo(t)
	o := readHostile(t, serve(t, r).url(r), "")
	t.Logf("at most %d MiB, %s: %.200s", o.Peak>>20, o.Took, o.Error)

	if !strings.Contains(o.Error, "versions of large files that need more than 512.0 MiB at once") || o.Peak > 1<<28 && !raced() {
		t.Errorf("got %q with %d MiB", o.Error, o.Peak>>20)
	}
}

// imported makes a bare repository of a stream for git fast-import.
func imported(t *testing.T, stream string) *repo {
	t.Helper()

	r := newRepo(t, true)

	// Newer versions of git refuse to serve deep trees of their own accord.
	runGit(t, r.dir, "config", "core.maxTreeDepth", "100000")

	cmd := exec.CommandContext(t.Context(), "git", "fast-import", "--quiet")
	cmd.Dir, cmd.Stdin = r.dir, strings.NewReader(stream)

	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git fast-import: %v\n%s", err, out)
	}

	return r
}

const importHead = "commit refs/heads/main\ncommitter Jane <jane@example.com> 1767323045 +0000\ndata 0\n"

func deepRepo(t *testing.T) *repo {
	return imported(t, importHead+"M 100644 inline "+strings.Repeat("d/", 10_000)+"f\ndata 1\nx\n")
}

func wideRepo(t *testing.T) *repo {
	r := newRepo(t, true)
	blob := r.object(plumbing.BlobObject, []byte("x"))
	entries := make([]object.TreeEntry, 300_000)

	for i := range entries {
		entries[i] = object.TreeEntry{Name: fmt.Sprintf("%06d.yaml", i), Mode: filemode.Regular, Hash: blob}
	}

	r.commitTree("main", "wide", r.tree(entries...))

	return r
}

func refsRepo(t *testing.T) *repo {
	r := newRepo(t, true)
	id := r.commit("one", map[string]string{"f": ""})

	var packed bytes.Buffer

	packed.WriteString("# pack-refs with: peeled fully-peeled sorted \n")

	for i := range 25_000 {
		fmt.Fprintf(&packed, "%s refs/heads/feature/number-%05d\n", id, i)
	}

	for i := range 25_000 {
		fmt.Fprintf(&packed, "%s refs/tags/v0.0.%05d\n", id, i)
	}

	if err := os.WriteFile(filepath.Join(r.dir, "packed-refs"), packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}

	return r
}

func aliasRepo(t *testing.T) *repo {
	var text strings.Builder

	text.WriteString("kind: Cluster\nname: bomb\npatches:\n  - name: x\n    inline:\n      a0: &a0 [x]\n")

	for i := range 30 {
		fmt.Fprintf(&text, "      a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}

	r := newRepo(t, true)
	r.commit("bomb", map[string]string{"bomb.yaml": text.String()})

	return r
}

func gibibyteRepo(t *testing.T) *repo { return zerosRepo(t, 1<<30) }
func largeRepo(t *testing.T) *repo    { return zerosRepo(t, 99<<20) }

// zerosRepo has a file of that many zeros, which take a thousandth of it in a pack.
func zerosRepo(t *testing.T, size int64) *repo {
	r := newRepo(t, true)
	r.commitTree("main", "large", r.tree(object.TreeEntry{Name: "large.yaml", Mode: filemode.Regular, Hash: zeros(t, r, size)}))

	return r
}

// zeros stores a blob of zeros, as git does: in a pack from 512 MiB on, and in a file of its
// own below.
func zeros(t *testing.T, r *repo, size int64) plumbing.Hash {
	t.Helper()

	name := filepath.Join(t.TempDir(), "zeros")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, size)); err != nil {
		t.Fatal(err)
	}

	runGit(t, r.dir, "-c", "core.compression=1", "hash-object", "-w", "--no-filters", name)

	hash := plumbing.NewHasher(plumbing.BlobObject, size)
	if _, err := io.CopyN(hash, zeroReader{}, size); err != nil {
		t.Fatal(err)
	}

	return hash.Sum()
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)

	return len(p), nil
}

// deltaRepo has a chain of files of 99 MiB, each a few bytes in the pack: what changed
// of the one before.
func deltaRepo(t *testing.T) *repo {
	const (
		size  = 99 << 20
		chain = 20
	)

	var (
		r       = newRepo(t, true)
		pack    bytes.Buffer
		entries []object.TreeEntry
		// git index-pack would unpack all of it, which takes minutes.
		index idxfile.Writer
	)

	index.OnHeader(chain + 1) //nolint:errcheck // it does not fail
	pack.Write(binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), chain+1))

	for i := range chain + 1 {
		hash := sha1.New()
		fmt.Fprintf(hash, "blob %d\x00", size)
		io.CopyN(hash, zeroReader{}, size-8) //nolint:errcheck // neither fails
		fmt.Fprintf(hash, "%08d", i)

		entries = append(entries, object.TreeEntry{
			Name: fmt.Sprintf("%03d.yaml", i), Mode: filemode.Regular, Hash: plumbing.NewHash(fmt.Sprintf("%x", hash.Sum(nil))),
		})

		start := pack.Len()
		add := func() {
			index.Add(entries[i].Hash, uint64(start), crc32.ChecksumIEEE(pack.Bytes()[start:]))
		}

		if i == 0 {
			packed(&pack, plumbing.BlobObject, size, nil, io.MultiReader(io.LimitReader(zeroReader{}, size-8), strings.NewReader("00000000")))
			add()

			continue
		}

		delta := binary.AppendUvarint(binary.AppendUvarint(nil, size), size)
		for at := 0; at < size-8; {
			n := min(size-8-at, 1<<24-1)
			delta = append(delta, 0xff, byte(at), byte(at>>8), byte(at>>16), byte(at>>24), byte(n), byte(n>>8), byte(n>>16))
			at += n
		}

		delta = fmt.Appendf(append(delta, 8), "%08d", i)
		base := entries[i-1].Hash

		packed(&pack, plumbing.REFDeltaObject, int64(len(delta)), base[:], bytes.NewReader(delta))
		add()
	}

	sum := sha1.Sum(pack.Bytes())
	pack.Write(sum[:])
	index.OnFooter(sum) //nolint:errcheck // it does not fail

	memory, err := index.Index()
	if err != nil {
		t.Fatal(err)
	}

	name := filepath.Join(r.dir, "objects", "pack", fmt.Sprintf("pack-%x", sum))
	if err = errors.Join(os.WriteFile(name+".pack", pack.Bytes(), 0o600), writeIndex(name+".idx", memory)); err != nil {
		t.Fatal(err)
	}

	r.commitTree("main", "deltas", r.tree(entries...))

	return r
}

// packed appends an object as it stands in a pack.
func packed(pack *bytes.Buffer, typ plumbing.ObjectType, size int64, base []byte, content io.Reader) {
	first := byte(typ)<<4 | byte(size&0xf)
	pack.Write(binary.AppendUvarint([]byte{first | 0x80}, uint64(size>>4)))
	pack.Write(base)

	deflate := zlib.NewWriter(pack)
	io.Copy(deflate, content) //nolint:errcheck // both are in memory
	deflate.Close()           //nolint:errcheck // likewise
}
