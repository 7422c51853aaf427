package signature

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	mathrand "math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// fuzzKeys is an SSH and an OpenPGP key, and a verifier that knows both.
type fuzzKeys struct {
	ssh      ssh.Signer
	entity   *openpgp.Entity
	head     *Verifier
	tag      *Verifier
	sshLine  string
	pgpBytes []byte
}

func newFuzzKeys(f testing.TB) fuzzKeys {
	f.Helper()

	// The same keys in each of the processes that fuzz: otherwise no mutation of a
	// signature that was made in one of them could pass in another.
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	check(f, err)

	entity := newEntity(f, at(0, func(c *packet.Config) { c.Rand = mathrand.NewChaCha8([32]byte{}) }))
	k := fuzzKeys{ssh: signer, entity: entity, sshLine: string(ssh.MarshalAuthorizedKey(signer.PublicKey()))}
	file := filepath.Join(f.TempDir(), "keys")
	write(f, file, k.sshLine)

	pgpFile := publicKeys(f, k.entity)
	k.pgpBytes = []byte(read(f, pgpFile))
	k.head, k.tag = load(f, ModeHEAD, file, pgpFile), load(f, ModeTag, file, pgpFile)
	k.head.now = func() time.Time { return start.Add(9 * day) }
	k.tag.now = k.head.now

	return k
}

func (k fuzzKeys) sshSign(f testing.TB, payload string) string {
	f.Helper()

	sig, err := sshsig.Sign(strings.NewReader(payload), k.ssh, sshsig.HashSHA512, namespace)
	check(f, err)

	return string(sshsig.Armor(sig))
}

func (k fuzzKeys) pgpSign(f testing.TB, payload string) string {
	f.Helper()

	var sig bytes.Buffer
	check(f, openpgp.ArmoredDetachSign(&sig, k.entity, strings.NewReader(payload), at(1)))

	return sig.String() + "\n"
}

// insert puts a signature into a commit, where git puts it.
func insert(payload []byte, signature string) []byte {
	head, body, _ := bytes.Cut(payload, []byte("\n\n"))
	folded := strings.ReplaceAll(strings.TrimSuffix(signature, "\n"), "\n", "\n ")

	return []byte(string(head) + "\ngpgsig " + folded + "\n\n" + string(body))
}

// Nothing passes but what was signed, byte for byte, however it is wrapped; and what
// passes, passes again when it is written as git would write it.
func FuzzCommit(f *testing.F) {
	k := newFuzzKeys(f)
	sshCommit := insert([]byte(testCommit), k.sshSign(f, testCommit))
	pgpCommit := insert([]byte(testCommit), k.pgpSign(f, testCommit))

	f.Add(sshCommit)
	f.Add(pgpCommit)
	f.Add([]byte(testCommit))
	f.Add(replaced(f, sshCommit, "gpgsig", sha256Header+"gpgsig"))
	f.Add(replaced(f, pgpCommit, "\n\n", "\n"+sha256Header+"mergetag object x\n gpgsig\n\n"))
	f.Add(replaced(f, pgpCommit, "\n\n", "\n"+gpgsig(f, sshCommit)+"\n"))
	f.Add(replaced(f, sshCommit, "subject", "svbject"))

	f.Fuzz(func(t *testing.T, raw []byte) {
		signer, err := k.head.Verify(withID("commit", raw), nil)
		if err != nil {
			return
		}

		parsed, err := readCommit(withID("commit", raw))
		check(t, err)

		if string(parsed.payload) != testCommit {
			t.Fatalf("accepted, though this was never signed:\n%q", parsed.payload)
		}

		again, err := k.head.Verify(withID("commit", insert(parsed.payload, parsed.signature)), nil)
		if err != nil || again != signer {
			t.Fatalf("accepted once but not again: %v, %v", again, err)
		}
	})
}

func FuzzTag(f *testing.F) {
	k := newFuzzKeys(f)
	commit := withID("commit", []byte(testCommit))
	payload := "object " + commit.ID + "\ntype commit\ntag v1\ntagger Jane <jane@example.com> 1767225600 +0000\n\nrelease\n"
	sshTag, pgpTag := payload+k.sshSign(f, payload), payload+k.pgpSign(f, payload)

	for _, tag := range []string{sshTag, pgpTag} {
		if _, err := k.tag.Verify(commit, &Object{Raw: []byte(tag), ID: withID("tag", []byte(tag)).ID, Name: "v1"}); err != nil {
			f.Fatal(err)
		}

		f.Add([]byte(tag))
		f.Add([]byte(tag + tag))
		f.Add(replaced(f, []byte(tag), "\n\n", "\n"+sha256Header+"\n"))
	}

	f.Add([]byte(payload))

	f.Fuzz(func(t *testing.T, raw []byte) {
		signer, err := k.tag.Verify(commit, new(withID("tag", raw)))
		if err != nil {
			return
		}

		parsed, err := readTag(withID("tag", raw), commit.ID)
		check(t, err)

		if string(parsed.payload) != payload {
			t.Fatalf("accepted, though this was never signed:\n%q", parsed.payload)
		}

		again, err := k.tag.Verify(commit, new(withID("tag", []byte(payload+parsed.signature))))
		if err != nil || again != signer {
			t.Fatalf("accepted once but not again: %v, %v", again, err)
		}
	})
}

// A signature from outside reaches go-crypto only as one small packet.
func FuzzOpenPGPSignature(f *testing.F) {
	entity := newEntity(f, at(0))
	f.Add(sign(f, entity, at(1)))
	f.Add([]byte{0xC2, 17, 4, 0, 22, 8, 0, 7, 6, 32, 6, 0, 1, 8, 0xFF, 0, 0, 0, 0})
	f.Add([]byte{0x8A, 0, 0, 0, 6, 4, 0, 1, 8, 0, 0})
	f.Add([]byte{0xC2, 12, 4, 0, 22, 8, 0, 2, 1, 4, 0, 0, 0, 0})

	f.Fuzz(func(t *testing.T, data []byte) {
		sig, err := readOpenPGPSignature(data)
		if err == nil && (sig.Version != 4 || sig.EmbeddedSignature != nil || sig.IssuerKeyId == nil) {
			t.Fatalf("accepted version %d, embedded %v", sig.Version, sig.EmbeddedSignature)
		}
	})
}

func FuzzKeyFile(f *testing.F) {
	k := newFuzzKeys(f)
	f.Add(k.pgpBytes)
	f.Add([]byte(k.sshLine))
	f.Add([]byte(`"jane doe",joe namespaces="git,!file",valid-after="20240101",valid-before="20250101Z" ` + k.sshLine))
	f.Add([]byte("restrict,from=\"x\" " + k.sshLine))
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\nVersion: 1\n\nmDMEZ\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"))

	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := parseKeyFile(content)
		if err != nil {
			return
		}

		for _, key := range file.ssh {
			if key.public == nil || key.line == 0 {
				t.Fatalf("accepted an empty key: %+v", key)
			}

			_ = key.allows(start, start)
		}

		for _, entity := range file.openpgp {
			if self, _ := entity.PrimarySelfSignature(); self == nil || entity.PrivateKey != nil {
				t.Fatalf("accepted a key without user ID, or with a secret: %+v", entity)
			}
		}
	})
}

// A certificate is not the key that it certifies.
func TestSSHCertificate(t *testing.T) {
	k := newFuzzKeys(t)
	sig, err := sshsig.Sign(strings.NewReader(testCommit), k.ssh, sshsig.HashSHA512, namespace)
	check(t, err)

	cert := &ssh.Certificate{Key: k.ssh.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	check(t, cert.SignCert(rand.Reader, k.ssh))

	sig.PublicKey = cert
	_, err = k.head.Verify(withID("commit", insert([]byte(testCommit), string(sshsig.Armor(sig)))), nil)
	checkError(t, err, ErrUnsupported, "SSH certificate", ssh.FingerprintSHA256(cert.Key))
}

// What stands behind the signature inside of the signature.
func TestSSHTrailingGarbage(t *testing.T) {
	k := newFuzzKeys(t)
	sig, err := sshsig.Sign(strings.NewReader(testCommit), k.ssh, sshsig.HashSHA512, namespace)
	check(t, err)

	sig.Signature.Rest = []byte("x")
	_, err = k.head.Verify(withID("commit", insert([]byte(testCommit), string(sshsig.Armor(sig)))), nil)
	checkError(t, err, ErrBadSignature, "trailing garbage")
}

// The keys of the fuzz tests are what they must be: the same every time.
func TestFuzzKeys(t *testing.T) {
	if a, b := newFuzzKeys(t), newFuzzKeys(t); !bytes.Equal(a.entity.PrimaryKey.Fingerprint, b.entity.PrimaryKey.Fingerprint) {
		t.Error("the OpenPGP key is another one every time")
	}
}
