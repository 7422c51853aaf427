package webhook

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
)

// signingPrefix marks a signing token of Standard Webhooks: the rest is the key in base64.
const signingPrefix = "whsec_"

// secret is one line of a secret file.
type secret struct {
	key []byte
	// signing: the key is used for Standard Webhooks signatures and nothing else.
	signing bool
}

// readSecrets reads a secret file anew. There is no cache that could be stale: the file is small,
// mounts of Secrets are swapped under the same name, and a delivery comes rarely. Errors name
// the file and never quote it.
func readSecrets(path string, provider Provider) ([]secret, error) {
	if path == "" {
		return nil, errors.New("a secret file is mandatory: name a file that holds the hook's secret")
	}

	// Looked at before it is opened: opening a pipe would wait for a writer.
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("read the secret file: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("secret file %s: must be a regular file", path)
	}

	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the secret file: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only

	data, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("read the secret file: %w", err)
	}

	if len(data) > maxSecret {
		return nil, fmt.Errorf("secret file %s: larger than %d bytes", path, maxSecret)
	}

	return parseSecrets(path, data, provider)
}

func parseSecrets(path string, data []byte, provider Provider) ([]secret, error) {
	var secrets []secret

	number := 0

	for line := range bytes.Lines(data) {
		number++

		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			continue
		}

		s := secret{key: line}

		if encoded, ok := bytes.CutPrefix(line, []byte(signingPrefix)); ok && provider == GitLab {
			key, err := base64.StdEncoding.DecodeString(string(encoded))
			if err != nil { // which would quote a byte of it
				return nil, fmt.Errorf("secret file %s: line %d begins with %s, but what follows is not base64: copy the whole signing token", path, number, signingPrefix)
			}

			s = secret{key: key, signing: true}
		}

		if len(s.key) < MinSecret {
			return nil, fmt.Errorf("secret file %s: line %d has %d bytes, at least %d are needed: use a long random text", path, number, len(s.key), MinSecret)
		}

		if secrets = append(secrets, s); len(secrets) > MaxSecrets {
			return nil, fmt.Errorf("secret file %s: holds more than %d secrets, one in a line", path, MaxSecrets)
		}
	}

	if len(secrets) == 0 {
		return nil, fmt.Errorf("secret file %s: is empty", path)
	}

	return secrets, nil
}
