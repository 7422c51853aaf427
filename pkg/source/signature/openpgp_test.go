package signature

import (
	"bytes"
	"encoding/base64"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const (
	day        = 24 * time.Hour
	testCommit = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n" +
		"author Jane <jane@example.com> 1767225600 +0000\n" +
		"committer Jane <jane@example.com> 1767225600 +0000\n\nsubject\n"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// at is a configuration of go-crypto for a moment, in days after the start.
func at(days int, more ...func(*packet.Config)) *packet.Config {
	c := &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA,
		Time:      func() time.Time { return start.Add(time.Duration(days) * day) },
	}
	for _, f := range more {
		f(c)
	}

	return c
}

func lifetime(days uint32) func(*packet.Config) {
	return func(c *packet.Config) { c.KeyLifetimeSecs = days * 24 * 3600 }
}

func newEntity(t testing.TB, config *packet.Config) *openpgp.Entity {
	t.Helper()

	entity, err := openpgp.NewEntity("Jane", "", "jane@example.com", config)
	if err != nil {
		t.Fatal(err)
	}

	return entity
}

// sign signs the test commit.
func sign(t testing.TB, entity *openpgp.Entity, config *packet.Config) []byte {
	t.Helper()

	var sig bytes.Buffer
	if err := openpgp.DetachSign(&sig, entity, strings.NewReader(testCommit), config); err != nil {
		t.Fatal(err)
	}

	return sig.Bytes()
}

func signedCommit(t testing.TB, kind string, sig []byte) Object {
	t.Helper()

	text := &bytes.Buffer{}
	w, err := armor.Encode(text, kind, nil)
	check(t, err)

	_, err = w.Write(sig)
	check(t, err)
	check(t, w.Close())

	folded := "gpgsig " + strings.ReplaceAll(text.String(), "\n", "\n ") + "\n"

	return withID("commit", replaced(t, []byte(testCommit), "\n\n", "\n"+folded+"\n"))
}

func check(t testing.TB, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}

// publicKeys writes the public keys to a file.
func publicKeys(t testing.TB, entities ...*openpgp.Entity) string {
	t.Helper()

	var keys bytes.Buffer
	for _, entity := range entities {
		check(t, entity.Serialize(&keys))
	}

	file := filepath.Join(t.TempDir(), "keys.gpg")
	write(t, file, keys.String())

	return file
}

// The rules about time, strength and kind of keys and signatures.
func TestOpenPGPRules(t *testing.T) {
	plain := newEntity(t, at(0))
	expiring := newEntity(t, at(0, lifetime(10)))
	rsa := newEntity(t, at(0, func(c *packet.Config) { c.Algorithm, c.RSABits = packet.PubKeyAlgoRSA, 1024 }))
	secp := newEntity(t, at(0, func(c *packet.Config) { c.Algorithm, c.Curve = packet.PubKeyAlgoECDSA, packet.CurveSecP256k1 }))
	v6 := newEntity(t, at(0, func(c *packet.Config) { c.V6Keys, c.Algorithm = true, packet.PubKeyAlgoEd25519 }))

	withSubkey := newEntity(t, at(0))
	check(t, withSubkey.AddSigningSubkey(at(1, lifetime(5))))

	var text bytes.Buffer
	check(t, openpgp.DetachSignText(&text, plain, strings.NewReader(testCommit), at(1)))

	sigOf := func(entity *openpgp.Entity, days int) []byte { return sign(t, entity, at(days)) }
	notation := sign(t, plain, at(1, func(c *packet.Config) {
		c.SignatureNotations = []*packet.Notation{{Name: "x@example.com", Value: []byte("1"), IsCritical: true}}
	}))
	shortLived := sign(t, plain, at(1, func(c *packet.Config) { c.SigLifetimeSecs = 3600 }))

	// Signed while valid; revoked later, and once with a date in the future.
	revoked := newEntity(t, at(0))
	revokedSig := sign(t, revoked, at(1))
	check(t, revoked.RevokeKey(packet.KeySuperseded, "", at(2)))

	later := newEntity(t, at(0))
	laterSig := sign(t, later, at(1))
	check(t, later.RevokeKey(packet.KeyRetired, "", at(1000)))

	subRevoked := newEntity(t, at(0))
	check(t, subRevoked.AddSigningSubkey(at(0)))
	subRevokedSig := sign(t, subRevoked, at(1))
	check(t, subRevoked.RevokeSubkey(&subRevoked.Subkeys[1], packet.KeyCompromised, "", at(2)))

	for _, tc := range []struct {
		name   string
		entity *openpgp.Entity
		sig    []byte
		now    int
		want   error
		text   string
	}{
		{"valid", plain, sigOf(plain, 1), 2, nil, ""},
		{"made now", plain, sigOf(plain, 1), 1, nil, ""},
		{"made when the key was", plain, sigOf(plain, 0), 1, nil, ""},
		{"made in the future", plain, sigOf(plain, 3), 2, ErrKeyNotValid, "made in the future, at 2026-01-04"},
		{"before the key expires", expiring, sigOf(expiring, 1), 9, nil, ""},
		{"after the key expired, signed before", expiring, sigOf(expiring, 1), 11, ErrKeyNotValid, "the key is expired"},
		{"signature expired", plain, shortLived, 2, ErrKeyNotValid, "is expired: sign again"},
		{"subkey", withSubkey, sigOf(withSubkey, 2), 3, nil, ""},
		{"subkey expired", withSubkey, sigOf(withSubkey, 2), 8, ErrKeyNotValid, "the key is expired"},
		{"revoked after signing", revoked, revokedSig, 3, ErrKeyNotValid, "revoked"},
		{"revoked, looked at before", revoked, revokedSig, 1, ErrKeyNotValid, "revoked"},
		{"revoked in the future", later, laterSig, 3, ErrKeyNotValid, "revoked"},
		{"subkey revoked", subRevoked, subRevokedSig, 3, ErrKeyNotValid, "revoked"},
		{"weak RSA", rsa, sigOf(rsa, 1), 2, ErrKeyNotValid, "1024 bits"},
		{"weak curve", secp, sigOf(secp, 1), 2, ErrKeyNotValid, "curve"},
		{"critical notation", plain, notation, 2, ErrKeyNotValid, "notation"},
		{"version 6", v6, sigOf(v6, 1), 2, ErrUnsupported, "version 6"},
		{"text signature", plain, text.Bytes(), 2, ErrUnsupported, "type 1"},
		{"unknown key", plain, sigOf(expiring, 1), 2, ErrUnknownKey, expiring.PrimaryKey.KeyIdString()},
		{"two signatures", plain, append(sigOf(plain, 1), sigOf(plain, 1)...), 2, ErrBadSignature, "not exactly one"},
		{"byte behind", plain, append(sigOf(plain, 1), 0), 2, ErrBadSignature, "not exactly one"},
		{"nothing", plain, nil, 2, ErrBadSignature, "not exactly one"},
		{"a key", plain, []byte("\x99\x00\x06\x04aaaaa"), 2, ErrBadSignature, "not exactly one"},
		{"signature in a signature", plain, append([]byte{0xC2, 17, 4, 0, 22, 8, 0, 7, 6, 32, 6, 0, 1, 8, 0xFF}, 0, 0, 0, 0), 2, ErrBadSignature, "not exactly one"},
		{"subpacket on which go-crypto panics", plain, []byte{0xC2, 12, 4, 0, 22, 8, 0, 2, 1, 4, 0, 0, 0, 0}, 2, ErrBadSignature, "not exactly one"},
		{"4 GiB of subpackets", plain, []byte{0xC2, 9, 6, 0, 27, 8, 0xFF, 0xFF, 0xFF, 0xFF, 0}, 2, ErrUnsupported, "version 6"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := load(t, ModeHEAD, publicKeys(t, tc.entity))
			v.now = at(tc.now).Time

			signer, err := v.Verify(signedCommit(t, "PGP SIGNATURE", tc.sig), nil)
			if tc.want == nil {
				check(t, err)

				if signer.Identity != "Jane <jane@example.com>" {
					t.Errorf("signer is %v", signer)
				}

				return
			}

			checkError(t, err, tc.want, tc.text)
		})
	}
}

// A key that was signed with before the key existed, by a clock that was wrong.
func TestOpenPGPSignatureOlderThanKey(t *testing.T) {
	old := newEntity(t, at(0))
	sig := sign(t, old, at(1))

	// The same secret as a key that is made later would have another ID, so lie
	// about the time in the parsed key.
	v := load(t, ModeHEAD, publicKeys(t, old))
	v.now = at(9).Time
	v.cache[v.files[0]].openpgp[0].PrimaryKey.CreationTime = start.Add(5 * day)

	_, err := v.Verify(signedCommit(t, "PGP SIGNATURE", sig), nil)
	checkError(t, err, ErrKeyNotValid, "older (2026-01-02T00:00:00Z) than the key")
}

// The same key listed twice: extended is enough, revoked anywhere counts.
func TestOpenPGPTwoCopies(t *testing.T) {
	entity := newEntity(t, at(0, lifetime(3)))
	sig := sign(t, entity, at(1))
	expired := publicKeys(t, entity)

	long := uint32(0)
	for name, identity := range entity.Identities {
		identity.SelfSignature.KeyLifetimeSecs = &long
		check(t, identity.SelfSignature.SignUserId(name, entity.PrimaryKey, entity.PrivateKey, at(2)))
		identity.Signatures = []*packet.Signature{identity.SelfSignature}
	}

	extended := publicKeys(t, entity)

	check(t, entity.RevokeKey(packet.NoReason, "", at(3)))

	revoked := publicKeys(t, entity)
	commit := signedCommit(t, "PGP SIGNATURE", sig)

	for _, tc := range []struct {
		name  string
		files []string
		text  string
	}{
		{"expired", []string{expired}, "the key is expired"},
		{"extended", []string{extended}, ""},
		{"expired and extended", []string{expired, extended}, ""},
		{"extended and expired", []string{extended, expired}, ""},
		{"extended and revoked", []string{extended, revoked}, "revoked"},
		{"revoked and extended", []string{revoked, extended}, "revoked"},
	} {
		v := load(t, ModeHEAD, tc.files...)
		v.now = at(20).Time

		_, err := v.Verify(commit, nil)
		if tc.text == "" && err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if tc.text != "" {
			checkError(t, err, ErrKeyNotValid, tc.text)
		}
	}
}

// What gpg and git themselves do about weak hashes and revoked and expired keys.
func TestOpenPGPBesideGPG(t *testing.T) {
	r := newRepo(t)
	fingerprint, exported := r.useGPG("rsa2048")
	commit := r.commit("first")
	payload := replaced(t, commit.Raw, gpgsig(t, commit.Raw), "")

	for _, hash := range []string{"SHA1", "SHA224", "RIPEMD160"} {
		sig, err := r.try(payload, "gpg", "--batch", "--digest-algo", hash, "-u", fingerprint, "-bsa")
		check(t, err)

		folded := "gpgsig " + strings.ReplaceAll(strings.TrimSuffix(sig, "\n"), "\n", "\n ") + "\n"
		object := r.store("commit", replaced(t, payload, "\n\n", "\n"+folded+"\n"))
		_, err = load(t, ModeHEAD, exported).Verify(object, nil)
		checkError(t, err, ErrBadSignature, "sign again")
	}

	export := func() string {
		file := filepath.Join(t.TempDir(), "again.asc")
		write(t, file, r.run("gpg", "--batch", "--armor", "--export", fingerprint))

		return file
	}

	r.run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-set-expire", fingerprint, "seconds=1")
	// The key file says when it expires; no need to wait for it.
	v := load(t, ModeHEAD, export())
	v.now = func() time.Time { return time.Now().Add(time.Hour) }
	_, err := v.Verify(commit, nil)
	checkError(t, err, ErrKeyNotValid, "expired", fingerprint, "Jane <jane@example.com>")

	r.run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-set-expire", fingerprint, "0")

	if _, err := load(t, ModeHEAD, export()).Verify(commit, nil); err != nil {
		t.Error(err)
	}

	certificate := filepath.Join(r.env[len(r.env)-1][len("GNUPGHOME="):], "openpgp-revocs.d", fingerprint+".rev")
	revocation := strings.Replace(read(t, certificate), ":-----BEGIN", "-----BEGIN", 1)
	_, err = r.try([]byte(revocation), "gpg", "--batch", "--quiet", "--import")
	check(t, err)

	_, err = load(t, ModeHEAD, export()).Verify(commit, nil)
	compareWithGit(t, r, "commit", commit, err, ErrKeyNotValid, false)
	checkError(t, err, ErrKeyNotValid, "revoked")
}

func TestOpenPGPKeyFiles(t *testing.T) {
	entity := newEntity(t, at(0))
	binary := read(t, publicKeys(t, entity))

	armored := func(kind, data string) string {
		var b bytes.Buffer
		w, err := armor.Encode(&b, kind, map[string]string{"Comment": "test"})
		check(t, err)

		_, err = io.WriteString(w, data)
		check(t, err)
		check(t, w.Close())

		return b.String() + "\n"
	}
	public := armored("PGP PUBLIC KEY BLOCK", binary)

	var private bytes.Buffer
	check(t, entity.SerializePrivateWithoutSigning(&private, nil))

	wrongSum := public[:strings.LastIndex(public, "\n=")+2] + base64.StdEncoding.EncodeToString([]byte("abc")) + "\n-----END PGP PUBLIC KEY BLOCK-----\n"

	for _, tc := range []struct {
		name, content, text string
	}{
		{"armoured", public, ""},
		{"armoured in CRLF", strings.ReplaceAll(public, "\n", "\r\n"), ""},
		{"two blocks", "# one\n" + public + "\n# two\n" + public, ""},
		{"binary", binary + binary, ""},
		{"private", armored("PGP PRIVATE KEY BLOCK", private.String()), "holds a private key"},
		{"private under a wrong name", armored("PGP PUBLIC KEY BLOCK", private.String()), "is a private key"},
		{"private, binary", private.String(), "is a private key"},
		{"signature", armored("PGP SIGNATURE", string(sign(t, entity, at(0)))), "outside of an OpenPGP public key block"},
		{"with an SSH key", public + "ssh-ed25519 AAAA\n", "line "},
		{"cut", public[:len(public)/2], "has no end"},
		{"binary cut", binary[:len(binary)-1], "OpenPGP key number 1"},
		{"second cut", binary + binary[:len(binary)-1], "OpenPGP key number 2"},
		{"wrong checksum", wrongSum, "checksum of the armour is wrong"},
		{"no user ID", binary[:2+int(binary[1])], "without any identities"},
		{"crafted to panic", "\xc67\x040000\x16\t+\x06\x01\x04\x01\xdaG\x0f\x01\x01\a@00000000000000000000000000000000" +
			"\xcd\x1700000000000000000000000\xc20\x040\x16\b\x00\x06\x01\x040000", "damaged or crafted"},
		{"noise", "\x99" + strings.Repeat("x", 100), "OpenPGP key number 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "keys")
			write(t, file, tc.content)

			_, err := Load(Config{Mode: ModeHEAD, KeyFiles: []string{file}})
			if tc.text == "" {
				check(t, err)

				return
			}

			checkError(t, err, ErrKeyFile, file, tc.text)
		})
	}
}

func TestChecksum(t *testing.T) {
	// The check value that catalogues of checksums list for CRC-24/OPENPGP: 21CF02.
	if got := checksum([]byte("123456789")); got != "Ic8C" {
		t.Errorf("checksum is %s", got)
	}
}
