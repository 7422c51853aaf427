package signature

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// verifyOpenPGP checks an OpenPGP signature. See the package comment for the rules.
func (k *keySet) verifyOpenPGP(s signed, now time.Time) (_ Signer, err error) {
	defer recovered(&err, ErrBadSignature)

	data, err := dearmor(s.signature, "PGP SIGNATURE")
	if err != nil {
		return Signer{}, fmt.Errorf("%w: %w: sign again", ErrBadSignature, err)
	}

	sig, err := readOpenPGPSignature(data)
	if err != nil {
		return Signer{}, err
	}

	id := fmt.Sprintf("OpenPGP key %016X", *sig.IssuerKeyId)
	if len(sig.IssuerFingerprint) > 0 {
		id = fmt.Sprintf("OpenPGP key %X", sig.IssuerFingerprint)
	}

	keys := k.openpgp.KeysById(*sig.IssuerKeyId)
	if len(keys) == 0 {
		return Signer{}, fmt.Errorf("%w: %s: add its public key to a key file if it is to be trusted", ErrUnknownKey, id)
	}

	// The same key may be listed twice, say before and after it was extended. One copy
	// that covers the signature is enough, but a revocation in any of them counts.
	var (
		signer   *openpgp.Entity
		refusals []error
	)

	for _, key := range keys {
		err := checkOpenPGP(key, sig, data, s.payload, now)
		if err != nil {
			err = fmt.Errorf("OpenPGP key %X of %s: %w", key.PublicKey.Fingerprint, userID(key.Entity), err)
		}

		switch {
		case errors.Is(err, errRevoked):
			return Signer{}, err
		case err != nil:
			refusals = append(refusals, err)
		default:
			signer = key.Entity
		}
	}

	if signer == nil {
		return Signer{}, errors.Join(refusals...)
	}

	return Signer{
		Kind:        "openpgp",
		Fingerprint: fmt.Sprintf("%X", signer.PrimaryKey.Fingerprint),
		Identity:    userID(signer),
	}, nil
}

var errRevoked = fmt.Errorf("%w: the key is revoked: sign with another key", ErrKeyNotValid)

// checkOpenPGP checks a signature against one key.
func checkOpenPGP(key openpgp.Key, sig *packet.Signature, data, payload []byte, now time.Time) error {
	var (
		ring   = openpgp.EntityList{key.Entity}
		config = &packet.Config{Time: func() time.Time { return now }}
	)

	_, entity, err := openpgp.VerifyDetachedSignature(ring, bytes.NewReader(payload), bytes.NewReader(data), config)

	switch {
	case errors.Is(err, pgperrors.ErrUnknownIssuer): // go-crypto looks at keys that may sign only
		return fmt.Errorf("%w: it is not for signing: sign with a key that has the usage \"sign\"", ErrKeyNotValid)
	case entity == nil:
		return fmt.Errorf("%w: it does not belong to this key and content: the object was changed after it was signed", ErrBadSignature)
	case len(key.Entity.Revocations) > 0 || len(key.Revocations) > 0: // whatever their date
		return errRevoked
	case err != nil:
		return explain(err, sig, now)
	}

	return checkOpenPGPKey(key, sig)
}

// explain says what to do about a refusal of go-crypto.
func explain(err error, sig *packet.Signature, now time.Time) error {
	switch {
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return errRevoked
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return fmt.Errorf("%w: the key is expired: extend it and replace it in the key file, or sign with another key", ErrKeyNotValid)
	case errors.Is(err, pgperrors.ErrSignatureExpired) && sig.CreationTime.Unix() > now.Unix():
		return fmt.Errorf("%w: the signature was made in the future, at %s: check the clocks", ErrKeyNotValid, sig.CreationTime.UTC().Format(time.RFC3339))
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return fmt.Errorf("%w: the signature, or the binding of the key to its owner, is expired: sign again", ErrKeyNotValid)
	}

	return fmt.Errorf("%w: %w: sign with another key", ErrKeyNotValid, err)
}

// checkOpenPGPKey refuses what go-crypto's check lets pass.
func checkOpenPGPKey(key openpgp.Key, sig *packet.Signature) error {
	if sig.CreationTime.Unix() < key.PublicKey.CreationTime.Unix() {
		return fmt.Errorf("%w: the signature is older (%s) than the key: check the clock of the machine that signs",
			ErrKeyNotValid, sig.CreationTime.UTC().Format(time.RFC3339))
	}

	for _, public := range []*packet.PublicKey{key.Entity.PrimaryKey, key.PublicKey} {
		if err := checkStrength(public); err != nil {
			return fmt.Errorf("%w: %w", ErrKeyNotValid, err)
		}
	}

	return nil
}

// checkStrength refuses the algorithms that go-crypto's own defaults refuse; the part
// of go-crypto that is used here does not look at those defaults.
func checkStrength(key *packet.PublicKey) error {
	var config *packet.Config // nil: the defaults
	if config.RejectPublicKeyAlgorithm(key.PubKeyAlgo) {
		return errors.New("the key's algorithm is too weak: sign with an Ed25519, ECDSA or RSA key")
	}

	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		if bits, err := key.BitLength(); err != nil || bits < config.MinimumRSABits() {
			return fmt.Errorf("the RSA key has %d bits, fewer than 2048: sign with a stronger key", bits)
		}
	case packet.PubKeyAlgoECDSA, packet.PubKeyAlgoEdDSA:
		if curve, err := key.Curve(); err != nil || config.RejectCurve(curve) {
			return fmt.Errorf("the curve %s is not accepted: sign with an Ed25519 key", clip(string(curve)))
		}
	}

	return nil
}

// readOpenPGPSignature parses exactly one signature packet, of the kind that git makes.
func readOpenPGPSignature(data []byte) (*packet.Signature, error) {
	if err := checkPacket(data); err != nil {
		return nil, err
	}

	p, err := packet.Read(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w: sign again, with SHA-256 or better", ErrBadSignature, err)
	}

	sig, ok := p.(*packet.Signature)
	if !ok || sig.IssuerKeyId == nil {
		return nil, fmt.Errorf("%w: it does not say which OpenPGP key made it: sign again", ErrBadSignature)
	}

	// A signature over text ignores differences in line endings: not what git makes.
	if sig.SigType != packet.SigTypeBinary {
		return nil, fmt.Errorf("%w: an OpenPGP signature of type %d: sign with git, which makes type 0", ErrUnsupported, sig.SigType)
	}

	strong := []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512}
	if !slices.Contains(strong, sig.Hash) {
		return nil, fmt.Errorf("%w: OpenPGP key %016X signed with the weak hash %s: set `digest-algo SHA256` in gpg.conf and sign again",
			ErrBadSignature, *sig.IssuerKeyId, sig.Hash)
	}

	return sig, nil
}
