package signature

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Real git with real ssh-keygen, for every kind of key.
func TestSSH(t *testing.T) {
	for name, args := range map[string][]string{
		"ed25519":  {"-t", "ed25519"},
		"ecdsa256": {"-t", "ecdsa", "-b", "256"},
		"ecdsa521": {"-t", "ecdsa", "-b", "521"},
		"rsa":      {"-t", "rsa", "-b", "2048"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			key := r.sshKey("id", args...)
			allowed := r.useSSH(key, "")
			fingerprint := strings.Fields(r.run("ssh-keygen", "-l", "-f", key))[1]
			commit := r.commit("first")
			tag := r.tag("v1")

			for file, identity := range map[string]string{allowed: "jane@example.com", key + ".pub": "id key"} {
				checkAccepted(t, commit, tag, file, Signer{Kind: "ssh", Fingerprint: fingerprint, Identity: identity})
			}
		})
	}
}

// Real git with real gpg.
func TestOpenPGP(t *testing.T) {
	for _, algo := range []string{"ed25519", "rsa2048", "nistp256"} {
		t.Run(algo, func(t *testing.T) {
			r := newRepo(t)
			fingerprint, exported := r.useGPG(algo)
			want := Signer{Kind: "openpgp", Fingerprint: fingerprint, Identity: "Jane <jane@example.com>"}

			checkAccepted(t, r.commit("first"), r.tag("v1"), exported, want)

			binary := filepath.Join(t.TempDir(), "jane.gpg")
			write(t, binary, r.run("gpg", "--batch", "--export", fingerprint))
			checkAccepted(t, r.commit("second"), r.tag("v2"), binary, want)

			r.run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-add-key", fingerprint, "ed25519", "sign", "1y")
			several := filepath.Join(t.TempDir(), "several.asc")
			other := newRepo(t)
			_, otherExported := other.useGPG("ed25519")
			write(t, several, "# keys\n\n"+read(t, otherExported)+"\n"+r.run("gpg", "--batch", "--armor", "--export", fingerprint)+"\n")
			r.git("config", "user.signingkey", "jane@example.com") // the newest subkey
			checkAccepted(t, r.commit("third"), r.tag("v3"), several, want)

			// The subkey is not in the first export.
			_, err := load(t, ModeHEAD, exported).Verify(r.commit("fourth"), nil)
			checkError(t, err, ErrUnknownKey, "OpenPGP key ", "add its public key")
		})
	}
}

func checkAccepted(t *testing.T, commit, tag Object, file string, want Signer) {
	t.Helper()

	for _, mode := range []Mode{ModeHEAD, ModeTag, ModeTagAndHEAD} {
		got, err := load(t, mode, file).Verify(commit, &tag)
		if err != nil {
			t.Errorf("%s with %s: %v", mode, filepath.Base(file), err)

			continue
		}

		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s with %s: signer (-want +got):\n%s", mode, filepath.Base(file), diff)
		}
	}
}

func checkError(t *testing.T, err, want error, texts ...string) {
	t.Helper()

	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want one that is %q", err, want)
	}

	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error does not contain %q: %v", text, err)
		}
	}
}

func TestModes(t *testing.T) {
	r := newRepo(t)
	key := r.sshKey("id", "-t", "ed25519")
	r.useSSH(key, "")

	signed := r.commit("signed")
	signedTag := r.tag("v1")
	r.git("tag", "-a", "-m", "unsigned", "v2")
	unsignedTag := r.object("tag", r.git("rev-parse", "v2"))
	r.git("commit", "-q", "--allow-empty", "-m", "unsigned")
	unsigned := r.object("commit", r.git("rev-parse", "HEAD"))
	tagOfUnsigned := r.tag("v3")
	r.git("tag", "-s", "-m", "tag of a tag", "v4", "v3")
	tagOfTag := r.object("tag", r.git("rev-parse", "v4"))

	renamed := signedTag
	renamed.Name = "v9"
	named := signedTag
	named.Name = "v1"

	for _, tc := range []struct {
		name   string
		mode   Mode
		commit Object
		tag    *Object
		want   error
		text   string
	}{
		{"signed commit", ModeHEAD, signed, nil, nil, ""},
		{"the tag does not matter", ModeHEAD, signed, &unsignedTag, nil, ""},
		{"unsigned commit", ModeHEAD, unsigned, nil, ErrUnsigned, "git commit -S"},
		{"a signed tag does not help", ModeHEAD, unsigned, &tagOfUnsigned, ErrUnsigned, unsigned.ID},
		{"signed tag", ModeTag, signed, &signedTag, nil, ""},
		{"signed tag of an unsigned commit", ModeTag, unsigned, &tagOfUnsigned, nil, ""},
		{"unsigned tag", ModeTag, signed, &unsignedTag, ErrUnsigned, "git tag -s"},
		{"no tag", ModeTag, signed, nil, ErrUnsigned, "does not name an annotated tag"},
		{"tag of another commit", ModeTag, signed, &tagOfUnsigned, ErrMalformed, "not of commit"},
		{"tag of a tag", ModeTag, unsigned, &tagOfTag, ErrUnsupported, "tag of a"},
		{"tag under its name", ModeTag, signed, &named, nil, ""},
		{"tag under another name", ModeTag, signed, &renamed, ErrBadSignature, `signed under the name "v1"`},
		{"both", ModeTagAndHEAD, signed, &signedTag, nil, ""},
		{"both, unsigned commit", ModeTagAndHEAD, unsigned, &tagOfUnsigned, ErrUnsigned, "commit " + unsigned.ID},
		{"both, unsigned tag", ModeTagAndHEAD, signed, &unsignedTag, ErrUnsigned, "tag " + unsignedTag.ID},
		{"both, no tag", ModeTagAndHEAD, signed, nil, ErrUnsigned, "annotated tag"},
		{"content of another commit", ModeHEAD, Object{Raw: signed.Raw, ID: unsigned.ID}, nil, ErrMalformed, "has the ID " + signed.ID},
		{"content of another tag", ModeTag, signed, &Object{Raw: signedTag.Raw, ID: unsignedTag.ID}, ErrMalformed, "has the ID"},
		{"SHA-256", ModeHEAD, Object{Raw: signed.Raw, ID: strings.Repeat("a", 64)}, nil, ErrUnsupported, "SHA-256 repository"},
		{"no ID", ModeHEAD, Object{Raw: signed.Raw, ID: "HEAD\n"}, nil, ErrMalformed, `"HEAD\n"`},
		{"too large", ModeHEAD, withID("commit", make([]byte, MaxObject+1)), nil, ErrMalformed, "limit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := load(t, tc.mode, key+".pub").Verify(tc.commit, tc.tag)
			if tc.want == nil {
				if err != nil {
					t.Fatal(err)
				}

				return
			}

			checkError(t, err, tc.want, tc.text)
		})
	}
}

// A key file is read again at every check, and a broken one refuses everything.
func TestRotation(t *testing.T) {
	r := newRepo(t)
	oldKey, newKey := r.sshKey("old", "-t", "ed25519"), r.sshKey("new", "-t", "ed25519")
	r.useSSH(oldKey, "")
	first := r.commit("first")
	r.useSSH(newKey, "")
	second := r.commit("second")

	file := filepath.Join(t.TempDir(), "keys")
	always := oldKey + ".pub"
	write(t, file, read(t, oldKey+".pub"))
	v := load(t, ModeHEAD, file)
	both := load(t, ModeHEAD, always, file)

	check := func(v *Verifier, commit Object, want error) {
		t.Helper()

		if _, err := v.Verify(commit, nil); !errors.Is(err, want) {
			t.Errorf("error is %v, want %v", err, want)
		}
	}
	digest := func() string {
		t.Helper()

		d, err := v.Reload()
		if err != nil {
			t.Fatal(err)
		}

		return d
	}

	before := digest()

	check(v, first, nil)
	check(v, second, ErrUnknownKey)

	if digest() != before {
		t.Error("the digest changed though the keys did not")
	}

	write(t, file, read(t, newKey+".pub"))

	if digest() == before {
		t.Error("the digest did not change with the keys")
	}

	check(v, first, ErrUnknownKey)
	check(v, second, nil)
	check(both, first, nil)
	check(both, second, nil)

	write(t, file, "ssh-ed25519 AAAA")
	check(v, second, ErrKeyFile)
	check(both, first, ErrKeyFile) // though its key is in the other file

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}

	_, err := v.Verify(second, nil)
	checkError(t, err, ErrKeyFile, file, "no such file", "no revision is accepted")

	if _, err := v.Reload(); !errors.Is(err, ErrKeyFile) {
		t.Errorf("Reload: %v", err)
	}

	write(t, file, read(t, newKey+".pub"))
	check(v, second, nil)
}

// Many checks at once, while the key file changes.
func TestConcurrent(t *testing.T) {
	k := newFuzzKeys(t)
	commit := withID("commit", insert([]byte(testCommit), k.pgpSign(t, testCommit)))

	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				if _, err := k.head.Verify(commit, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}

	for i := range 20 { // a rename, as when a mounted Secret changes
		fresh := filepath.Join(t.TempDir(), "keys")
		write(t, fresh, strings.Repeat("# again\n", i)+k.sshLine)

		if err := os.Rename(fresh, k.head.files[0]); err != nil {
			t.Fatal(err)
		}
	}

	group.Wait()
}
