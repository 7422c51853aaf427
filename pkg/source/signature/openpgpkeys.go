package signature

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// parseArmoredKeys reads a file of armoured public keys.
func parseArmoredKeys(text string) (openpgp.EntityList, error) {
	const kind = "PGP PUBLIC KEY BLOCK"

	var (
		all   openpgp.EntityList
		block []string
	)

	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t")

		switch {
		case block == nil && line == "-----BEGIN "+kind+"-----", block != nil:
			block = append(block, line)
		case line == "" || strings.HasPrefix(line, "#"):
		default:
			return nil, fmt.Errorf("line %d: text outside of an OpenPGP public key block: keep OpenPGP and SSH keys in files of their own", i+1)
		}

		if line != "-----END "+kind+"-----" {
			continue
		}

		data, err := dearmor(strings.Join(block, "\n"), kind)
		if err != nil {
			return nil, fmt.Errorf("the block that ends at line %d: %w: export it again with `gpg --armor --export`", i+1, err)
		}

		keys, err := parseOpenPGPKeys(data)
		if err != nil {
			return nil, fmt.Errorf("the block that ends at line %d: %w", i+1, err)
		}

		all, block = append(all, keys...), nil
	}

	if block != nil {
		return nil, errors.New("the last OpenPGP public key block has no end: export it again with `gpg --armor --export`")
	}

	return all, nil
}

// parseOpenPGPKeys reads binary public keys. A key that cannot be used is an error
// and not skipped: skipping could lose a revocation, and surprises whoever listed it.
func parseOpenPGPKeys(data []byte) (all openpgp.EntityList, err error) {
	defer recovered(&err, errors.New("it cannot be read"))

	for packets := packet.NewReader(bytes.NewReader(data)); ; {
		entity, err := openpgp.ReadEntity(packets)
		if errors.Is(err, io.EOF) && len(all) > 0 {
			return all, nil
		}

		if err != nil {
			return nil, fmt.Errorf("OpenPGP key number %d: %w: export it again with `gpg --export --export-options export-minimal`, or remove it",
				len(all)+1, err)
		}

		if hasPrivate(entity) {
			return nil, fmt.Errorf("OpenPGP key number %d is a private key: export the public key, and keep the private key away from here", len(all)+1)
		}

		// A user ID with nothing but a revocation says nothing, and go-crypto
		// expects a self-signature on those that it chooses from.
		for name, identity := range entity.Identities {
			if identity.SelfSignature == nil {
				delete(entity.Identities, name)
			}
		}

		if self, _ := entity.PrimarySelfSignature(); self == nil {
			return nil, fmt.Errorf("OpenPGP key number %d, %X, has no valid user ID: remove it", len(all)+1, entity.PrimaryKey.Fingerprint)
		}

		all = append(all, entity)
	}
}

func hasPrivate(entity *openpgp.Entity) bool {
	return entity.PrivateKey != nil || slices.ContainsFunc(entity.Subkeys, func(s openpgp.Subkey) bool { return s.PrivateKey != nil })
}

// userID returns the primary user ID for people to read.
func userID(entity *openpgp.Entity) string {
	if identity := entity.PrimaryIdentity(); identity != nil {
		return printable(identity.Name)
	}

	return ""
}
