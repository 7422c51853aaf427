package source

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
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
	// pack returns the objects of a commit, without its history, that the store lacks.
	// It must be closed.
	pack func(ctx context.Context, commit plumbing.Hash, into *store) (io.ReadCloser, error)
	// follows tells whether the commit "to" has "from" in its history; known is false
	// when that cannot be told cheaply.
	follows func(ctx context.Context, from, to plumbing.Hash) (yes, known bool)
}

// pick finds a branch, or the default branch if none is named.
func (v *view) pick(branch string) (name string, commit plumbing.Hash, err error) {
	ref := plumbing.NewBranchReferenceName(branch)

	if branch == "" {
		if ref = v.head; ref == "" {
			ref = plumbing.HEAD
		}
	}

	if ref != plumbing.HEAD && ref.Validate() != nil {
		return "", plumbing.ZeroHash, fmt.Errorf("the default branch has the invalid name %q", ref)
	}

	if commit, ok := v.refs[ref]; ok {
		return ref.Short(), commit, nil
	}

	var branches []string

	for name := range v.refs {
		if name.IsBranch() {
			branches = append(branches, clean(name.Short()))
		}
	}

	slices.Sort(branches)

	const shown = 10

	list := strings.Join(branches[:min(shown, len(branches))], ", ")
	if len(branches) > shown {
		list += ", …"
	}

	switch {
	case len(branches) == 0:
		return "", plumbing.ZeroHash, errEmpty
	case branch == "":
		return "", plumbing.ZeroHash, fmt.Errorf("the default branch %q does not exist: name one of the branches %s", ref.Short(), list)
	default:
		return "", plumbing.ZeroHash, fmt.Errorf("there is no branch %q: name one of %s", branch, list)
	}
}

var errEmpty = errors.New("the repository is empty: push a first commit")

// httpRemote is a repository on a server that speaks Git's smart HTTP protocol.
type httpRemote struct {
	url    *url.URL
	client transport.Transport
}

func newHTTPRemote(u *url.URL) *httpRemote {
	rt := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // documented type
	rt.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	rt.ResponseHeaderTimeout = time.Minute

	// go-git follows redirects for the first request only, never from https to http.
	return &httpRemote{url: u, client: githttp.NewClient(&http.Client{Transport: boundedTransport{rt}})}
}

func (r *httpRemote) look(ctx context.Context) (*view, error) {
	endpoint, err := transport.NewEndpoint(r.url.String())
	if err != nil {
		return nil, errors.New("not a valid URL: use https://host/path")
	}

	session, err := r.client.NewUploadPackSession(endpoint, nil)
	if err != nil {
		return nil, explain(err)
	}

	advert, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, explain(err)
	}

	v := &view{refs: make(map[plumbing.ReferenceName]plumbing.Hash, len(advert.References))}
	for name, id := range advert.References {
		v.refs[plumbing.ReferenceName(name)] = id
	}

	if advert.Head != nil {
		v.refs[plumbing.HEAD] = *advert.Head
	}

	for _, symref := range advert.Capabilities.Get(capability.SymRef) {
		if target, ok := strings.CutPrefix(symref, "HEAD:"); ok {
			v.head = plumbing.ReferenceName(target)
		}
	}

	v.pack = func(ctx context.Context, commit plumbing.Hash, into *store) (io.ReadCloser, error) {
		req := packRequest(advert, commit, 1)

		if tip, ok := into.tip(); ok {
			req.Haves = []plumbing.Hash{tip}
			req.Shallows = []plumbing.Hash{tip}
			// Without this, git leaves out nothing of what we have: the new commit has no
			// visible parent that would tell. (go-git thinks it unsupported; we complete the
			// pack ourselves.)
			req.Capabilities.Set(capability.ThinPack) //nolint:errcheck // takes no argument
		}

		return upload(ctx, session, req)
	}
	v.follows = func(ctx context.Context, from, to plumbing.Hash) (yes, known bool) {
		return follows(ctx, session, advert, from, to)
	}

	return v, nil
}

// packRequest asks for a commit with that much of its history.
func packRequest(advert *packp.AdvRefs, commit plumbing.Hash, depth int) *packp.UploadPackRequest {
	req := packp.NewUploadPackRequestFromCapabilities(advert.Capabilities)
	req.Wants = []plumbing.Hash{commit}
	req.Depth = packp.DepthCommits(depth)
	req.Capabilities.Set(capability.Shallow) //nolint:errcheck // takes no argument

	if advert.Capabilities.Supports(capability.NoProgress) {
		req.Capabilities.Set(capability.NoProgress) //nolint:errcheck // takes no argument
	}

	return req
}

// upload sends a request and returns the pack in the answer.
func upload(ctx context.Context, session transport.UploadPackSession, req *packp.UploadPackRequest) (io.ReadCloser, error) {
	answer, err := session.UploadPack(ctx, req)
	if err != nil {
		return nil, explain(err)
	}

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

// follows asks for the commits, and nothing else, that lead to a commit. Servers that
// cannot leave the files out of an answer are not asked.
func follows(ctx context.Context, session transport.UploadPackSession, advert *packp.AdvRefs, from, to plumbing.Hash) (yes, known bool) {
	if !advert.Capabilities.Supports(capability.Filter) {
		return false, false
	}

	const (
		far  = 1000 // nobody pushes more commits than that at once
		size = 8 << 20
	)

	req := packRequest(advert, to, far)
	req.Filter = packp.FilterTreeDepth(0)
	req.Capabilities.Set(capability.Filter) //nolint:errcheck // takes no argument

	pack, err := upload(ctx, session, req)
	if err != nil {
		return false, false
	}
	defer pack.Close()

	file, index, _, err := spoolPack(ctx, "", pack, nothing{}, limits{size: size})
	if err != nil {
		return false, false
	}

	defer os.Remove(file.Name())
	defer file.Close()

	yes, err = index.Contains(from)

	return yes, err == nil
}

// boundedTransport refuses answers that are not Git's and bounds those that go-git
// reads into memory.
type boundedTransport struct{ http.RoundTripper }

func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.RoundTripper.RoundTrip(req)
	if err != nil || req.Method != http.MethodGet {
		return res, err // a pack is bounded where it is read
	}

	if typ := res.Header.Get("Content-Type"); res.StatusCode == http.StatusOK && typ != "application/x-git-upload-pack-advertisement" {
		res.Body.Close()

		return nil, errNotGit
	}

	res.Body = &boundedBody{ReadCloser: res.Body, left: maxAdvert}

	return res, nil
}

type boundedBody struct {
	io.ReadCloser

	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("the server's list of branches is larger than %s: refused", mebibytes(maxAdvert))
	}

	return n, err
}

var errNotGit = errors.New("the server's answer is not from a Git repository: use the URL that \"git clone\" takes")

// explain turns go-git's errors into what to do. The server's own text is left out:
// it may be a whole page. URLs are left out: the caller adds ours.
func explain(err error) error {
	if unexpected := (*plumbing.UnexpectedError)(nil); errors.As(err, &unexpected) {
		err = unexpected.Err
	}

	var (
		status *githttp.Err
		dns    *net.DNSError
		uerr   *url.Error
	)

	switch {
	case errors.Is(err, errNotGit):
		return errNotGit
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return errors.New("there is no such repository on the server: check the URL")
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		return errors.New("the server wants credentials: check the URL (many servers say this about a repository that does not exist); private repositories are not supported yet")
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return errEmpty
	case errors.As(err, &status):
		return fmt.Errorf("the server answered %q: try again later, or check the URL", status.Response.Status)
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("there is no host %q: check the URL and the name server", dns.Name)
	case errors.As(err, &uerr):
		return fmt.Errorf("the server cannot be reached: %w", uerr.Err)
	default:
		return err
	}
}
