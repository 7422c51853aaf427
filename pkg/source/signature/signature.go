package signature

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Mode says what must be signed.
type Mode string

const (
	// ModeHEAD asks for a signed commit.
	ModeHEAD Mode = "HEAD"
	// ModeTag asks for a signed annotated tag: the one that the ref names.
	ModeTag Mode = "Tag"
	// ModeTagAndHEAD asks for both.
	ModeTagAndHEAD Mode = "TagAndHEAD"
)

// The reasons for a refusal, for errors.Is. Every error of this package is one of
// them, with the object, the key and what to do in its text.
var (
	// ErrUnsigned means that there is no signature where one must be.
	ErrUnsigned = errors.New("not signed")
	// ErrUnknownKey means that the signature was made by a key that is not listed.
	ErrUnknownKey = errors.New("signed by an unknown key")
	// ErrBadSignature means that the signature does not belong to the content.
	ErrBadSignature = errors.New("bad signature")
	// ErrKeyNotValid means that the key is listed but does not count: expired,
	// revoked, too weak, not for signing Git objects, or not at that time.
	ErrKeyNotValid = errors.New("signed by a key that is not valid")
	// ErrUnsupported means a kind of signature or object that is not supported.
	ErrUnsupported = errors.New("not supported")
	// ErrMalformed means an object that git would not write.
	ErrMalformed = errors.New("malformed object")
	// ErrKeyFile means that the key files cannot be used. Nothing is accepted.
	ErrKeyFile = errors.New("key file cannot be used")
)

// MaxObject bounds a commit or tag object, in bytes. A commit of a merge of signed
// tags carries those tags and is still far below.
const MaxObject = 1 << 20

// Config says what must be signed and by whom.
type Config struct {
	Mode Mode
	// KeyFiles are the public keys that count, at most [MaxKeyFiles] files. Each
	// file has OpenPGP public keys (armoured or binary, any number) or SSH public
	// keys, one per line, as in authorized_keys or as in the allowed_signers file
	// of ssh-keygen.
	KeyFiles []string
}

// Object is a raw Git object.
type Object struct {
	// Raw is what `git cat-file commit|tag` prints. It is not changed.
	Raw []byte
	// ID is the object's SHA-1 in lower-case hex. Raw must have this ID.
	ID string
	// Name is, for a tag, the name under which it was found: "v1" for refs/tags/v1.
	// If it is set, the tag must have been signed under that name; otherwise a
	// server could serve an old signed tag under a new name. Unused for commits.
	Name string
}

// Signer says who signed.
type Signer struct {
	Kind        string // "openpgp" or "ssh"
	Fingerprint string // of the primary key in hex, or "SHA256:…"
	Identity    string // user ID, principal or key comment, as listed; may be ""
}

// String returns the signer for a status line.
func (s Signer) String() string {
	if s.Identity == "" {
		return s.Kind + " key " + s.Fingerprint
	}

	return s.Kind + " key " + s.Fingerprint + " (" + s.Identity + ")"
}

// Verifier checks signatures. It is safe for concurrent use.
type Verifier struct {
	mode  Mode
	files []string
	now   func() time.Time

	mu    sync.Mutex
	cache map[string]*keyFile
}

// Load checks the configuration and reads the key files.
func Load(cfg Config) (*Verifier, error) {
	switch cfg.Mode {
	case ModeHEAD, ModeTag, ModeTagAndHEAD:
	default:
		return nil, fmt.Errorf("unknown verification mode %s: use %s, %s or %s",
			strconv.Quote(string(cfg.Mode)), ModeHEAD, ModeTag, ModeTagAndHEAD)
	}

	if len(cfg.KeyFiles) == 0 {
		return nil, fmt.Errorf("%w: verification is asked for but no key file is listed: list at least one", ErrKeyFile)
	}

	if len(cfg.KeyFiles) > MaxKeyFiles {
		return nil, fmt.Errorf("%w: %d files are listed and the limit is %d: put several keys into one file",
			ErrKeyFile, len(cfg.KeyFiles), MaxKeyFiles)
	}

	v := &Verifier{
		mode:  cfg.Mode,
		files: append([]string(nil), cfg.KeyFiles...),
		now:   time.Now,
		cache: map[string]*keyFile{},
	}
	if _, err := v.Reload(); err != nil {
		return nil, err
	}

	return v, nil
}

// Mode returns what must be signed.
func (v *Verifier) Mode() Mode { return v.mode }

// Reload reads the key files and returns a digest of them. [Verifier.Verify] reads
// them itself. A caller asks here whether a refusal may be worth a second look: if
// the digest is the one that it saw at the refusal, the keys did not change. (Time
// may have: a key's validity can begin or end.)
func (v *Verifier) Reload() (digest string, err error) {
	keys, err := v.keys()
	if err != nil {
		return "", err
	}

	return keys.digest, nil
}

// Verify returns who signed the commit (mode HEAD) or the tag (other modes), or an
// error that says why the revision must be refused. The tag is nil if the ref does
// not name an annotated tag. It is ignored in mode HEAD.
func (v *Verifier) Verify(commit Object, tag *Object) (Signer, error) {
	keys, err := v.keys()
	if err != nil {
		return Signer{}, err
	}

	var signer Signer

	parsed, err := readCommit(commit)
	if err == nil && v.mode != ModeTag {
		signer, err = keys.verify(parsed, v.now())
	}

	if err != nil {
		return Signer{}, fmt.Errorf("commit %s: %w", label(commit), err)
	}

	if v.mode == ModeHEAD {
		return signer, nil
	}

	if tag == nil {
		return Signer{}, fmt.Errorf("commit %s: %w: the ref does not name an annotated tag: create it with `git tag -s`, or verify with mode %s",
			label(commit), ErrUnsigned, ModeHEAD)
	}

	parsed, err = readTag(*tag, commit.ID)
	if err == nil {
		signer, err = keys.verify(parsed, v.now())
	}

	if err != nil {
		return Signer{}, fmt.Errorf("tag %s: %w", label(*tag), err)
	}

	return signer, nil
}

// label names an object in an error. The caller's ID is quoted if it is none.
func label(o Object) string {
	id := o.ID
	if !isID(id) {
		id = clip(id)
	}

	if o.Name == "" {
		return id
	}

	return clip(o.Name) + " (" + id + ")"
}

// checkID makes sure that the bytes are those of the object that the revision names.
// The signature covers the bytes; only this ties them to the ID that gets fetched.
func checkID(kind string, o Object) error {
	if len(o.ID) == 64 {
		return fmt.Errorf("%w: the object is from a SHA-256 repository: use a repository with SHA-1 object names", ErrUnsupported)
	}

	if !isID(o.ID) {
		return fmt.Errorf("%w: %s is not an object ID of 40 lower-case hex digits", ErrMalformed, clip(o.ID))
	}

	if len(o.Raw) > MaxObject {
		return fmt.Errorf("%w: the object has %d bytes and the limit is %d: shorten its message", ErrMalformed, len(o.Raw), MaxObject)
	}

	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kind, len(o.Raw))
	h.Write(o.Raw)

	if got := hex.EncodeToString(h.Sum(nil)); got != o.ID {
		return fmt.Errorf("%w: the content has the ID %s: the object store is corrupted or the server lies; clone again", ErrMalformed, got)
	}

	return nil
}

func isID(s string) bool {
	if len(s) != 40 {
		return false
	}

	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}

	return true
}

// clip quotes text from outside for an error: no control characters, bounded.
func clip(s string) string {
	const limit = 100
	if len(s) > limit {
		s = s[:limit] + "…"
	}

	return strconv.QuoteToGraphic(s)
}
