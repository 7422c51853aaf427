package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
)

// maxAdvert bounds a server's list of refs: about half a million of them.
const maxAdvert = 32 << 20

// remote is a repository that can be looked at.
type remote interface {
	look(ctx context.Context) (*view, error)
}

// view is what one look at a repository showed.
type view struct {
	head plumbing.ReferenceName // the branch that HEAD is; "" when it is on none or not told
	refs map[plumbing.ReferenceName]plumbing.Hash
	// peeled tells what annotated tags are at, if the look showed it.
	peeled map[plumbing.ReferenceName]plumbing.Hash
	// byID says that pack takes any commit, not only what refs name.
	byID bool
	// pack returns what the store lacks of a commit, without its history, or of an
	// annotated tag and its commit. It must be closed.
	pack func(ctx context.Context, object plumbing.Hash, into *store) (io.ReadCloser, error)
	// deep returns all there is of that many commits back from each of the objects. It
	// is nil where byID makes it needless.
	deep func(ctx context.Context, objects []plumbing.Hash, depth int) (io.ReadCloser, error)
	// history returns the parents of the commits that lead to one, up to that many back, without
	// what the commit "have" builds on. It is nil if the server cannot leave the files out, and
	// where the history is at hand.
	history func(ctx context.Context, head, have plumbing.Hash, depth int) (map[plumbing.Hash][]plumbing.Hash, error)
	// close ends the connection, if there is one. It may be nil.
	close func()
}

func (v *view) done() {
	if v.close != nil {
		v.close()
	}
}

// list names some of the refs below a prefix, for an error.
func (v *view) list(prefix string) string {
	var names []string

	for name := range v.refs {
		if short, ok := strings.CutPrefix(string(name), prefix); ok {
			names = append(names, clean(short))
		}
	}

	slices.Sort(names)

	const shown = 10

	list := strings.Join(names[:min(shown, len(names))], ", ")
	if len(names) > shown {
		list += ", …"
	}

	return list
}

var errEmpty = errors.New("the repository is empty: push a first commit")

// asker sends a request for a pack and returns the answer as it comes.
type asker func(ctx context.Context, request []byte) (io.ReadCloser, error)

// readAdvert reads a server's list of refs. This is version 0 of Git's protocol, which
// every server speaks: the list is whole, and a look is one request. Version 2 would
// send less for a repository with very many refs, and take two.
func readAdvert(r io.Reader) (*packp.AdvRefs, error) {
	advert := packp.NewAdvRefs()

	from := &boundedReader{r: r, left: maxAdvert}
	err := advert.Decode(from)

	switch line := (*pktline.ErrorLine)(nil); {
	case from.err != nil:
		return nil, from.err
	case errors.As(err, &line):
		return nil, fmt.Errorf("the server says %q: check the URL", clean(line.Text))
	case errors.Is(err, packp.ErrEmptyAdvRefs), err == nil && advert.IsEmpty():
		return nil, errEmpty
	case errors.Is(err, packp.ErrEmptyInput):
		return nil, errNoAnswer
	case err != nil:
		return nil, fmt.Errorf("%w (%s): is it a Git repository with SHA-1 names?", errNoList, clean(err.Error()))
	}

	// A client with one "have" and an immediate "done" gets the same answer with and
	// without multi_ack, and there are servers (Azure DevOps) that insist on it. Thin packs
	// are asked for where they help.
	advert.Capabilities.Delete(capability.ThinPack)

	return advert, nil
}

var errNoList = errors.New("the server's list of refs cannot be read")

// newView makes a view of a server's list.
func newView(advert *packp.AdvRefs, ask asker) *view {
	v := &view{
		refs:   make(map[plumbing.ReferenceName]plumbing.Hash, len(advert.References)),
		peeled: make(map[plumbing.ReferenceName]plumbing.Hash, len(advert.Peeled)),
		byID:   advert.Capabilities.Supports(capability.AllowReachableSHA1InWant),
	}

	for name, id := range advert.References {
		v.refs[plumbing.ReferenceName(name)] = id
	}

	for name, id := range advert.Peeled {
		v.peeled[plumbing.ReferenceName(name)] = id
	}

	if advert.Head != nil {
		v.refs[plumbing.HEAD] = *advert.Head
	}

	for _, symref := range advert.Capabilities.Get(capability.SymRef) {
		if target, ok := strings.CutPrefix(symref, "HEAD:"); ok {
			v.head = plumbing.ReferenceName(target)
		}
	}

	v.pack = func(ctx context.Context, object plumbing.Hash, into *store) (io.ReadCloser, error) {
		req := packRequest(advert, 1, object)

		if tip, ok := into.tip(); ok {
			req.Haves = []plumbing.Hash{tip}
			req.Shallows = []plumbing.Hash{tip}
			// Without this, git leaves out nothing of what we have: the new commit has no
			// visible parent that would tell. (go-git thinks it unsupported; we complete the
			// pack ourselves.)
			req.Capabilities.Set(capability.ThinPack) //nolint:errcheck // takes no argument
		}

		return upload(ctx, ask, req)
	}
	v.deep = func(ctx context.Context, objects []plumbing.Hash, depth int) (io.ReadCloser, error) {
		return upload(ctx, ask, packRequest(advert, depth, objects...))
	}

	if advert.Capabilities.Supports(capability.Filter) {
		v.history = func(ctx context.Context, head, have plumbing.Hash, depth int) (map[plumbing.Hash][]plumbing.Hash, error) {
			return commitsOf(ctx, ask, advert, head, have, depth)
		}
	}

	return v
}

// packRequest asks for objects with that much of their history.
func packRequest(advert *packp.AdvRefs, depth int, objects ...plumbing.Hash) *packp.UploadPackRequest {
	req := packp.NewUploadPackRequestFromCapabilities(advert.Capabilities)
	req.Wants = objects
	req.Depth = packp.DepthCommits(depth)
	req.Capabilities.Set(capability.Shallow) //nolint:errcheck // takes no argument

	if advert.Capabilities.Supports(capability.NoProgress) {
		req.Capabilities.Set(capability.NoProgress) //nolint:errcheck // takes no argument
	}

	return req
}

// upload sends a request and returns the pack in the answer.
func upload(ctx context.Context, ask asker, req *packp.UploadPackRequest) (io.ReadCloser, error) {
	var request bytes.Buffer

	// No flush after the haves: "done" follows at once, and the server answers once.
	err := errors.Join(req.UploadRequest.Encode(&request), req.UploadHaves.Encode(&request, false),
		pktline.NewEncoder(&request).EncodeString("done\n"))
	if err != nil {
		return nil, fmt.Errorf("ask for objects: %w", err)
	}

	body, err := ask(ctx, request.Bytes())
	if err != nil {
		return nil, err
	}

	answer := packp.NewUploadPackResponse(req)

	// The part before the pack is lines; how many, only the server knows.
	head := &boundedReader{r: body, left: maxAdvert}
	if err = answer.Decode(struct {
		io.Reader
		io.Closer
	}{head, body}); err != nil {
		body.Close()

		switch line := (*pktline.ErrorLine)(nil); {
		case head.err != nil:
			return nil, fmt.Errorf("receive objects: %w", head.err)
		case errors.As(err, &line):
			return nil, fmt.Errorf("the server refused: %s", clean(strings.TrimPrefix(line.Text, "upload-pack: ")))
		default:
			return nil, fmt.Errorf("the server's answer cannot be read (%s): try again later", clean(err.Error()))
		}
	}

	head.left = unbounded // the pack is bounded where it is read

	var pack io.Reader = answer

	switch {
	case req.Capabilities.Supports(capability.Sideband64k):
		pack = sideband.NewDemuxer(sideband.Sideband64k, answer)
	case req.Capabilities.Supports(capability.Sideband):
		pack = sideband.NewDemuxer(sideband.Sideband, answer)
	}

	return struct {
		io.Reader
		io.Closer
	}{pack, answer}, nil
}

// unbounded is more than anybody sends.
const unbounded = 1 << 62

var (
	errNoAnswer   = errors.New("the server closed the connection without an answer: check the URL, and try again later")
	errAdvertSize = fmt.Errorf("the server's list of refs is larger than %s: refused", mebibytes(maxAdvert))
)

// boundedReader ends with an error where a server sends more than is sensible. It keeps
// the error, because not all decoders pass it on as it is.
type boundedReader struct {
	r    io.Reader
	left int64
	err  error // the first one that is not io.EOF
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		n, err = 0, errAdvertSize
	}

	if err != nil && err != io.EOF && b.err == nil { //nolint:errorlint // a reader returns it as it is
		b.err = err
	}

	return n, err
}
