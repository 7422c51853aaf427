package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

const (
	// tokenPrefix lets people and secret scanners see what it is.
	tokenPrefix = "osd_"
	tokenBytes  = 32
	hashPrefix  = "sha256:"
)

// tokenLength is how long a token is.
var tokenLength = len(tokenPrefix) + base64.RawURLEncoding.EncodedLen(tokenBytes)

// digest is the SHA-256 of a token. A hash without salt and without rounds is enough,
// because a token is 256 bits of chance and nothing that a person chose: nobody finds one by
// trying, however fast the hash is. And it is fast enough to be computed for every request
// before anything else is known of it.
type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

// NewToken makes a token, and the hash that stands for it in the token file.
func NewToken() (token, hash string, err error) {
	random := make([]byte, tokenBytes)
	if _, err := rand.Read(random); err != nil {
		return "", "", fmt.Errorf("make a token: %w", err)
	}

	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(random)
	sum := digestOf(token)

	return token, hashPrefix + hex.EncodeToString(sum[:]), nil
}

// Token is an entry of the token file: what is known of a token, and what it may.
type Token struct {
	// Name is for the audit log; no two tokens have the same.
	Name string `yaml:"name"`
	// Hash is "sha256:" and 64 hexadecimal digits; see [NewToken].
	Hash string `yaml:"hash"`
	// Expires is when the token ends; zero for never.
	Expires time.Time `yaml:"expires,omitempty"`
	// Grants say what it may; at least one.
	Grants []Grant `yaml:"grants"`
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$`)

// CheckName says what is wrong with the name of a token.
func CheckName(name string) error {
	if !tokenName.MatchString(name) || strings.Contains(name, tokenPrefix) {
		return errors.New("a token needs a name of at most 63 letters, digits and `.`, `_`, `-`, `@`, for the audit log")
	}

	return nil
}

var errHash = errors.New("the hash of a token is written sha256:<64 hexadecimal digits>; " +
	"if the token itself stands there, make a new one, because whoever read the file knows it")

func parseHash(hash string) (digest, error) {
	var sum digest

	text, ok := strings.CutPrefix(hash, hashPrefix)
	if !ok || len(text) != hex.EncodedLen(len(sum)) {
		return sum, errHash
	}

	if _, err := hex.Decode(sum[:], []byte(text)); err != nil {
		return sum, errHash
	}

	return sum, nil
}
