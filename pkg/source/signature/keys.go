package signature

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
)

const (
	// MaxKeyFiles bounds the number of key files.
	MaxKeyFiles = 64
	// MaxKeyFile bounds one key file, in bytes.
	MaxKeyFile = 1 << 20
	// MaxKeys bounds the keys of all files together.
	MaxKeys = 1000
	// MaxSignature bounds a signature as it stands in the object, in bytes. The
	// largest RSA key in use makes 3 KiB.
	MaxSignature = 16 << 10
)

// keySet is what the key files hold at one moment.
type keySet struct {
	openpgp openpgp.EntityList
	ssh     map[string][]sshKey // by the key in wire format
	digest  string
}

// keyFile is one parsed key file.
type keyFile struct {
	content []byte
	openpgp openpgp.EntityList
	ssh     []sshKey
}

// keys reads the key files. They are small and a check is rare, so that comparing
// the content beats every guess from times and watches: a mounted Secret changes by
// swapping a symbolic link.
func (v *Verifier) keys() (*keySet, error) {
	v.mu.Lock()
	defer v.mu.Unlock()

	set := &keySet{ssh: map[string][]sshKey{}}
	digest := sha256.New()
	count := 0

	for _, name := range v.files {
		file, err := readKeyFile(name, v.cache[name])
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w; no revision is accepted until it is fixed", ErrKeyFile, name, err)
		}

		v.cache[name] = file

		count += len(file.openpgp) + len(file.ssh)
		if count > MaxKeys {
			return nil, fmt.Errorf("%w: %s: with it there are more than %d keys: list fewer", ErrKeyFile, name, MaxKeys)
		}

		set.openpgp = append(set.openpgp, file.openpgp...)

		for _, key := range file.ssh {
			wire := string(key.public.Marshal())
			set.ssh[wire] = append(set.ssh[wire], key)
		}

		sum := sha256.Sum256(file.content)
		digest.Write(sum[:])
	}

	set.digest = hex.EncodeToString(digest.Sum(nil))

	return set, nil
}

// readKeyFile reads and parses a file, or returns the known one if it did not change.
func readKeyFile(name string, known *keyFile) (*keyFile, error) {
	content, err := readBounded(name)
	if err != nil {
		return nil, err
	}

	if known != nil && bytes.Equal(known.content, content) {
		return known, nil
	}

	return parseKeyFile(content)
}

// parseKeyFile reads keys of one kind: OpenPGP, armoured or binary, or SSH.
func parseKeyFile(content []byte) (file *keyFile, err error) {
	file = &keyFile{content: content}

	switch text := strings.ReplaceAll(string(content), "\r\n", "\n"); {
	case strings.Contains(text, "PRIVATE KEY-----"), strings.Contains(text, "PRIVATE KEY BLOCK-----"):
		return nil, errors.New("it holds a private key: export the public key, and keep the private key away from here")
	case strings.Contains(text, "-----BEGIN PGP "):
		file.openpgp, err = parseArmoredKeys(text)
	case len(content) > 0 && content[0] >= 0x80: // every OpenPGP packet begins so
		file.openpgp, err = parseOpenPGPKeys(content)
	default:
		file.ssh, err = parseSSHKeys(text)
	}

	if err != nil {
		return nil, err
	}

	if len(file.openpgp)+len(file.ssh) == 0 {
		return nil, errors.New("it holds no key: put OpenPGP or SSH public keys into it")
	}

	return file, nil
}

// readBounded reads a regular file. Anything else could block or never end.
func readBounded(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, bare(err)
	}

	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}

	f, err := os.Open(name)
	if err != nil {
		return nil, bare(err)
	}

	defer f.Close()

	content, err := io.ReadAll(io.LimitReader(f, MaxKeyFile+1))
	if err != nil {
		return nil, bare(err)
	}

	if len(content) > MaxKeyFile {
		return nil, fmt.Errorf("it has more than %d bytes: list fewer keys, or export them without third-party signatures", MaxKeyFile)
	}

	return content, nil
}

// bare drops the file name from an error whose caller names the file.
func bare(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return fmt.Errorf("%s: %w", pathErr.Op, pathErr.Err)
	}

	return err
}

// verify checks the signature of an object against the keys.
func (k *keySet) verify(s signed, now time.Time) (Signer, error) {
	if len(s.signature) > MaxSignature {
		return Signer{}, fmt.Errorf("%w: the signature has %d bytes and the limit is %d", ErrBadSignature, len(s.signature), MaxSignature)
	}

	switch {
	case s.signature == "":
		return Signer{}, fmt.Errorf("%w: sign it (`git commit -S`, `git tag -s`), or turn verification off", ErrUnsigned)
	case strings.HasPrefix(s.signature, beginOpenPGP):
		return k.verifyOpenPGP(s, now)
	case strings.HasPrefix(s.signature, beginSSH):
		return k.verifySSH(s, now)
	case strings.HasPrefix(s.signature, beginX509):
		return Signer{}, fmt.Errorf("%w: it is signed with an X.509 certificate (S/MIME): sign with an OpenPGP or SSH key (git config gpg.format)", ErrUnsupported)
	case strings.HasPrefix(s.signature, beginOpenPGPMessage):
		return Signer{}, fmt.Errorf("%w: it holds an OpenPGP message in place of a detached signature: sign again with git", ErrUnsupported)
	}

	line, _, _ := strings.Cut(s.signature, "\n")

	return Signer{}, fmt.Errorf("%w: the signature begins with %s, which is no signature of git: sign again", ErrBadSignature, clip(line))
}
