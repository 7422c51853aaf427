package signature

import (
	"bytes"
	"strings"
	"testing"
)

// gpgsig returns the header with the signature of a commit, with its newlines.
func gpgsig(t testing.TB, raw []byte) string {
	t.Helper()

	headers, _, err := splitHeaders(raw)
	if err != nil {
		t.Fatal(err)
	}

	for _, h := range headers {
		if h.key == "gpgsig" {
			return string(h.raw)
		}
	}

	t.Fatalf("no gpgsig in\n%s", raw)

	return ""
}

// sha256Header is what a commit has on top in a repository that is kept in both.
const sha256Header = "gpgsig-sha256 -----BEGIN SSH SIGNATURE-----\n anything\n -----END SSH SIGNATURE-----\n"

// Tampered commits, with git's own opinion of each beside ours. What git refuses must
// be refused. What it accepts and we do not is listed as stricter.
func TestTamperedCommits(t *testing.T) {
	for _, format := range []string{"ssh", "openpgp"} {
		t.Run(format, func(t *testing.T) {
			r := newRepo(t)
			keys := useFormat(r, format)
			v := load(t, ModeHEAD, keys)

			commit := r.commit("subject\n\nbody line\n")
			other := r.commit("other\n")
			sig, otherSig := gpgsig(t, commit.Raw), gpgsig(t, other.Raw)
			tree := string(commit.Raw[:len("tree ")+40])

			for _, tc := range []struct {
				name     string
				raw      []byte
				want     error
				stricter bool // git accepts it
			}{
				{name: "unchanged", raw: commit.Raw},
				{name: "tree", raw: replaced(t, commit.Raw, tree, "tree "+strings.Repeat("1", 40)), want: ErrBadSignature},
				{name: "parent added", raw: replaced(t, commit.Raw, "\nauthor", "\nparent "+other.ID+"\nauthor"), want: ErrBadSignature},
				{name: "author", raw: replaced(t, commit.Raw, "author Jane", "author Joan"), want: ErrBadSignature},
				{name: "message", raw: replaced(t, commit.Raw, "body", "b0dy"), want: ErrBadSignature},
				{name: "byte appended", raw: append(bytes.Clone(commit.Raw), '\n'), want: ErrBadSignature},
				{name: "zero byte appended", raw: append(bytes.Clone(commit.Raw), 0), want: ErrBadSignature},
				{name: "message in CRLF", raw: replaced(t, commit.Raw, "subject\n", "subject\r\n"), want: ErrBadSignature},
				{name: "headers in CRLF", raw: bytes.ReplaceAll(commit.Raw, []byte("\n"), []byte("\r\n")), want: ErrMalformed},
				{name: "signature in CRLF", raw: replaced(t, commit.Raw, sig, strings.ReplaceAll(sig, "\n", "\r\n")), want: ErrBadSignature, stricter: format == "openpgp"},
				{name: "one CR in the signature", raw: replaced(t, commit.Raw, sig, lastLineCR(sig)), want: ErrBadSignature, stricter: true},
				{name: "signature removed", raw: replaced(t, commit.Raw, sig, ""), want: ErrUnsigned},
				{name: "signature of another commit", raw: replaced(t, commit.Raw, sig, otherSig), want: ErrBadSignature},
				{name: "header before the signature", raw: replaced(t, commit.Raw, sig, "extra 1\n"+sig), want: ErrBadSignature},
				{name: "header after the signature", raw: replaced(t, commit.Raw, sig, sig+"extra 1\n"), want: ErrBadSignature},
				{name: "encoding added", raw: replaced(t, commit.Raw, sig, "encoding ISO-8859-1\n"+sig), want: ErrBadSignature},
				{name: "uncovered header", raw: replaced(t, commit.Raw, sig, sig+"gpgsig-evil 1\n"), want: ErrMalformed, stricter: true},
				{name: "uncovered header without value", raw: replaced(t, commit.Raw, sig, "gpgsig\n"+sig), want: ErrMalformed, stricter: true},
				{name: "signature for SHA-256 after", raw: replaced(t, commit.Raw, sig, sig+sha256Header)},
				{name: "signature for SHA-256 before", raw: replaced(t, commit.Raw, sig, sha256Header+sig)},
				{name: "two for SHA-256", raw: replaced(t, commit.Raw, sig, sig+sha256Header+sha256Header), want: ErrMalformed, stricter: true},
				{name: "only for SHA-256", raw: replaced(t, commit.Raw, sig, "gpgsig-sha256"+strings.TrimPrefix(sig, "gpgsig")), want: ErrUnsigned},
				{name: "signature twice", raw: replaced(t, commit.Raw, sig, sig+sig), want: ErrMalformed, stricter: format == "ssh"},
				{name: "second signature first", raw: replaced(t, commit.Raw, sig, otherSig+sig), want: ErrMalformed},
				{name: "second signature last", raw: replaced(t, commit.Raw, sig, sig+otherSig), want: ErrMalformed, stricter: format == "ssh"},
				{name: "garbage before", raw: replaced(t, commit.Raw, "gpgsig ", "gpgsig garbage\n "), want: ErrBadSignature},
				{name: "garbage after", raw: replaced(t, commit.Raw, sig, sig+" garbage\n"), want: ErrBadSignature, stricter: true},
				{name: "blank line after", raw: replaced(t, commit.Raw, sig, sig+" \n")},
				{name: "signature in the message", raw: append(replaced(t, commit.Raw, sig, ""), unfoldText(sig)...), want: ErrUnsigned},
				{name: "signature after the empty line", raw: append(replaced(t, commit.Raw, sig, ""), sig...), want: ErrUnsigned},
				{name: "signature cut", raw: replaced(t, commit.Raw, sig, sig[:len(sig)/2]+"\n"), want: ErrBadSignature},
				{name: "signature damaged", raw: replaced(t, commit.Raw, sig, flip(sig)), want: ErrBadSignature},
				{name: "X.509", raw: replaced(t, commit.Raw, sig, "gpgsig "+beginX509+"\n MIIB\n -----END SIGNED MESSAGE-----\n"), want: ErrUnsupported},
				{name: "OpenPGP message", raw: replaced(t, commit.Raw, sig, "gpgsig "+beginOpenPGPMessage+"\n \n aaaa\n -----END PGP MESSAGE-----\n"), want: ErrUnsupported},
				{name: "no empty line", raw: bytes.TrimSuffix(bytes.SplitAfter(commit.Raw, []byte("\n\n"))[0], []byte("\n")), want: ErrMalformed},
				{name: "second tree", raw: replaced(t, commit.Raw, sig, tree+"\n"+sig), want: ErrMalformed},
				{name: "zero byte in a header", raw: replaced(t, commit.Raw, "author Jane", "author Ja\x00ne"), want: ErrMalformed},
				{name: "leading continuation", raw: append([]byte(" x\n"), commit.Raw...), want: ErrMalformed},
				{name: "tag in place of a commit", raw: []byte("object " + commit.ID + "\ntype commit\ntag v1\n\nx\n"), want: ErrMalformed},
				{name: "empty", raw: nil, want: ErrMalformed},
			} {
				t.Run(tc.name, func(t *testing.T) {
					object := r.store("commit", tc.raw)
					_, err := v.Verify(object, nil)
					compareWithGit(t, r, "commit", object, err, tc.want, tc.stricter)
				})
			}
		})
	}
}

func TestTamperedTags(t *testing.T) {
	for _, format := range []string{"ssh", "openpgp"} {
		t.Run(format, func(t *testing.T) {
			r := newRepo(t)
			keys := useFormat(r, format)
			v := load(t, ModeTag, keys)

			commit := r.commit("subject\n")
			tag, other := r.tag("v1"), r.tag("v2")
			sig := string(tag.Raw[findSignature(tag.Raw):])
			otherSig := string(other.Raw[findSignature(other.Raw):])

			for _, tc := range []struct {
				name     string
				raw      []byte
				want     error
				stricter bool
			}{
				{name: "unchanged", raw: tag.Raw},
				{name: "object", raw: replaced(t, tag.Raw, commit.ID, strings.Repeat("1", 40)), want: ErrMalformed},
				{name: "name", raw: replaced(t, tag.Raw, "tag v1", "tag v9"), want: ErrBadSignature},
				{name: "type", raw: replaced(t, tag.Raw, "type commit", "type tree"), want: ErrUnsupported},
				{name: "message", raw: replaced(t, tag.Raw, "release", "Release"), want: ErrBadSignature},
				{name: "message in CRLF", raw: replaced(t, tag.Raw, "release v1\n", "release v1\r\n"), want: ErrBadSignature},
				{name: "signature in CRLF", raw: replaced(t, tag.Raw, sig, strings.ReplaceAll(sig, "\n", "\r\n")), want: ErrBadSignature, stricter: format == "openpgp"},
				{name: "header added", raw: replaced(t, tag.Raw, "\ntagger", "\nextra 1\ntagger"), want: ErrMalformed},
				{name: "second object", raw: replaced(t, tag.Raw, "\ntagger", "\nobject "+commit.ID+"\ntagger"), want: ErrMalformed},
				{name: "continuation", raw: replaced(t, tag.Raw, "\ntagger", "\n x\ntagger"), want: ErrMalformed},
				{name: "signature for SHA-256", raw: replaced(t, tag.Raw, "\n\n", "\n"+sha256Header+"\n")},
				{name: "signature header", raw: replaced(t, tag.Raw, "\n\n", "\n"+gpgsig(t, commit.Raw)+"\n"), want: ErrMalformed, stricter: true},
				{name: "signature removed", raw: replaced(t, tag.Raw, sig, ""), want: ErrUnsigned},
				{name: "signature of another tag", raw: replaced(t, tag.Raw, sig, otherSig), want: ErrBadSignature},
				{name: "text before the signature", raw: replaced(t, tag.Raw, sig, "text\n"+sig), want: ErrBadSignature},
				{name: "text after the signature", raw: append(bytes.Clone(tag.Raw), "text\n"...), want: ErrBadSignature, stricter: true},
				{name: "signature twice", raw: append(bytes.Clone(tag.Raw), sig...), want: ErrBadSignature},
				{name: "begins again after", raw: append(bytes.Clone(tag.Raw), beginSSH+"\n"...), want: ErrBadSignature},
				{name: "X.509", raw: replaced(t, tag.Raw, sig, beginX509+"\nMIIB\n"), want: ErrUnsupported},
				{name: "empty", raw: nil, want: ErrMalformed},
			} {
				t.Run(tc.name, func(t *testing.T) {
					object := r.store("tag", tc.raw)
					_, err := v.Verify(commit, &object)
					compareWithGit(t, r, "tag", object, err, tc.want, tc.stricter)
				})
			}
		})
	}
}

func compareWithGit(t *testing.T, r *repo, kind string, object Object, err, want error, stricter bool) {
	t.Helper()

	accepted, gitErr := r.accepts(kind, object.ID)

	switch {
	case want == nil && err != nil:
		t.Errorf("refused: %v", err)
	case want != nil:
		checkError(t, err, want, object.ID)
	}

	switch {
	case err == nil && !accepted:
		t.Errorf("git refuses what is accepted here: %v", gitErr)
	case err != nil && accepted != stricter:
		t.Errorf("git accepts it: %v, the table says %v (git: %v)", accepted, stricter, gitErr)
	}
}

func useFormat(r *repo, format string) (keys string) {
	if format == "openpgp" {
		_, keys = r.useGPG("ed25519")

		return keys
	}

	return r.useSSH(r.sshKey("id", "-t", "ed25519"), "")
}

// lastLineCR ends the line before the last one with CRLF: in base64, where decoders
// do not mind.
func lastLineCR(sig string) string {
	end := strings.LastIndex(sig, "\n -----END")

	return sig[:end] + "\r" + sig[end:]
}

// unfoldText is the signature as it would stand in a message.
func unfoldText(sig string) string {
	return strings.ReplaceAll(strings.TrimPrefix(sig, "gpgsig "), "\n ", "\n")
}

// flip changes a letter in the middle of the armour.
func flip(sig string) string {
	b := []byte(sig)

	i := len(b) / 2
	for b[i] == '\n' || b[i] == ' ' {
		i++
	}

	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}

	return string(b)
}

// Unusual commits that git signs and that must pass.
func TestUnusualCommits(t *testing.T) {
	for _, format := range []string{"ssh", "openpgp"} {
		t.Run(format, func(t *testing.T) {
			r := newRepo(t)
			v := load(t, ModeHEAD, useFormat(r, format))
			r.commit("first")

			check := func(name string, object Object, contains string) {
				t.Helper()

				if !bytes.Contains(object.Raw, []byte(contains)) {
					t.Errorf("%s: the commit is not as unusual as it should be:\n%s", name, object.Raw)
				}

				if _, err := v.Verify(object, nil); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}

			check("empty message", r.commit(""), "-----\n\n")
			check("CRLF in the message", r.commit("a\r\nb\r\n"), "a\r\n")
			check("signature in the message", r.commit(beginSSH+"\nx\n"+beginOpenPGP+"\n"), "\n\n"+beginSSH)
			check("header in the message", r.commit("gpgsig x\n y\n"), "\n\ngpgsig x")

			commit := r.object("commit", r.git("rev-parse", "HEAD"))
			r.git("tag", "-s", "-m", "text\n"+beginSSH+"\n"+beginOpenPGP+"\nmore", "quoting")
			quoting := r.object("tag", r.git("rev-parse", "refs/tags/quoting"))

			if _, err := load(t, ModeTag, v.files...).Verify(commit, &quoting); err != nil {
				t.Errorf("tag that quotes a signature: %v", err)
			}

			r.git("config", "i18n.commitEncoding", "ISO-8859-1")
			check("encoding", r.commit("Gr\xfc\xdfe"), "\nencoding ISO-8859-1\n")
			r.git("config", "--unset", "i18n.commitEncoding")

			r.git("checkout", "-q", "-b", "side")
			r.commit("side")
			r.tag("signed")
			r.git("checkout", "-q", "main")
			r.git("merge", "-q", "--no-ff", "-S", "-m", "merge of a signed tag", "signed")
			merge := r.object("commit", r.git("rev-parse", "HEAD"))
			check("mergetag", merge, "\nmergetag object ")
			// The signature of the merged tag is no signature of the merge.
			_, err := v.Verify(withID("commit", replaced(t, merge.Raw, gpgsig(t, merge.Raw), "")), nil)
			checkError(t, err, ErrUnsigned)
		})
	}
}
