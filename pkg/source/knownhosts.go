package source

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// knownHosts tells whether a server is who it says. Nothing is ever learned: a key that
// is not in the file is refused.
type knownHosts struct {
	file    string
	address string // host:port
	db      *knownhosts.HostKeyDB
	bad     error // why the key was refused
}

func readKnownHosts(file, address string) (*knownHosts, error) {
	if _, _, err := readBounded(file, "known hosts"); err != nil {
		return nil, fmt.Errorf("%w (ssh-keyscan makes one)", err)
	}

	db, err := knownhosts.NewDB(file)
	if err != nil {
		return nil, fmt.Errorf("the known hosts file %s cannot be read: %s", file, clean(err.Error()))
	}

	return &knownHosts{file: file, address: address, db: db}, nil
}

// newKinds are the kinds of host keys asked for if none is known, the best first: one of
// them is then shown. SHA-1 and DSA are not among them.
var newKinds = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// algorithms are those for which there is a key in the file: a server has several keys,
// and would else show one of a kind that is not in it.
func (k *knownHosts) algorithms() []string {
	known := slices.DeleteFunc(k.db.HostKeyAlgorithms(k.address), func(name string) bool {
		return name == "" || name == ssh.KeyAlgoRSA || name == ssh.CertAlgoRSAv01 || strings.Contains(name, "ssh-dss")
	})
	if len(known) == 0 {
		return newKinds
	}

	return known
}

// check is an ssh.HostKeyCallback.
func (k *knownHosts) check(address string, remote net.Addr, key ssh.PublicKey) error {
	err := k.db.HostKeyCallback()(address, remote, key)
	if err == nil {
		return nil
	}

	var (
		wrong   *xknownhosts.KeyError
		revoked *xknownhosts.RevokedError
		shown   = key.Type() + " " + ssh.FingerprintSHA256(key)
	)

	switch {
	case errors.As(err, &revoked):
		k.bad = fmt.Errorf("the host key of %s (%s) is marked as revoked in %s: do not connect; ask the server's operator", address, shown, k.file)
	case errors.As(err, &wrong) && len(wrong.Want) > 0:
		var want []string
		for _, known := range wrong.Want {
			want = append(want, fmt.Sprintf("line %d: %s %s", known.Line, known.Key.Type(), ssh.FingerprintSHA256(known.Key)))
		}

		k.bad = fmt.Errorf("the host key of %s is not the one that is known: the server shows %s, and %s has %s: "+
			"somebody may be in between, or the server has a new key; ask its operator, and replace the line only if they confirm it",
			address, shown, k.file, strings.Join(want, ", "))
	case errors.As(err, &wrong):
		k.bad = fmt.Errorf("the host key of %s is not known: it is %s: compare that with the fingerprint that the server's operator publishes, "+
			"and if they are equal add this line to %s: %s", address, shown, k.file, xknownhosts.Line([]string{address}, key))
	default: // a certificate that is not valid, for one
		k.bad = fmt.Errorf("the host key of %s (%s) is refused: %s", address, shown, clean(err.Error()))
	}

	return k.bad
}

// otherKinds is the error for a server that has no key of a kind that is known.
func (k *knownHosts) otherKinds(offered []string) error {
	return fmt.Errorf("%s has other kinds of host keys (%s) than %s knows of it (%s): "+
		"ask its operator for the fingerprint of a new one, and add that key", k.address, clean(strings.Join(offered, ", ")), k.file, strings.Join(k.algorithms(), ", "))
}
