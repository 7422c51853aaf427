package omni

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
)

// Errors of a service account key. None of them wraps what the decoders said: those quote the key.
var (
	errNoKey = errors.New("no service account key: set OMNI_SERVICE_ACCOUNT_KEY to what `omnictl serviceaccount create` prints")

	errKeyBase64 = errors.New("the service account key (OMNI_SERVICE_ACCOUNT_KEY) is not valid base64, perhaps it was cut off when it was copied; " +
		"create one with `omnictl serviceaccount create`")

	errKeyJSON = errors.New("the service account key (OMNI_SERVICE_ACCOUNT_KEY) is not that of a service account, perhaps it was cut off when it was copied; " +
		"create one with `omnictl serviceaccount create`")

	errKeyPGP = errors.New("the service account key (OMNI_SERVICE_ACCOUNT_KEY) holds no usable private key; " +
		"create one with `omnictl serviceaccount create`")

	errKeyExpired = errors.New("the service account key (OMNI_SERVICE_ACCOUNT_KEY) has expired; " +
		"renew it with `omnictl serviceaccount renew`")
)

// checkKey returns the key without the blanks around it if Omni's client library can sign with it.
func checkKey(key string) (string, error) {
	key = strings.TrimSpace(key)
	if key == "" {
		// Stopped here because the signing library would look into the environment by itself.
		return "", errNoKey
	}

	account, err := serviceaccount.Decode(key)
	if err != nil {
		var (
			corrupt base64.CorruptInputError
			syntax  *json.SyntaxError
			typed   *json.UnmarshalTypeError
		)

		switch {
		case errors.As(err, &corrupt):
			return "", errKeyBase64
		case errors.As(err, &syntax), errors.As(err, &typed):
			return "", errKeyJSON
		default:
			return "", errKeyPGP
		}
	}

	switch unlocked, err := account.Key.IsUnlocked(); {
	case account.Name == "":
		return "", errKeyJSON
	case !account.Key.IsPrivate(), err != nil, !unlocked:
		return "", errKeyPGP
	case account.Key.IsExpired(0):
		return "", errKeyExpired
	}

	return key, nil
}
