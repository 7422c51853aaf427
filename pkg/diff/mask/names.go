package mask

import (
	"strings"
	"unicode"
)

// Keys that say by their name that the value is secret, in any document. A name is compared in lower case and without
// "-", "_", "." and spaces: apiToken, api_token and API-TOKEN are one. A name that is no secret by its end is looked at word
// by word: DB_PASSWORD_PROD, clientSecretValue.

// secretSuffixes end the names of secrets: rootPassword, WIREGUARD_PRIVATE_KEY, hcloud-token.
var secretSuffixes = []string{
	"password", "passwords", "passwd", "passphrase", "passphrases", "passcode",
	"secret", "token", "bearer", "authorization", "credential", "credentials", "jwt",
	"privatekey", "privatekeys", "presharedkey", "sharedkey", "secretkey", "accesskey", "apikey", "apikeys", "authkey", "signingkey",
	"encryptionkey", "masterkey", "accountkey", "keydata", "dockerconfigjson", "connectionstring",
}

// secretNames are secret as a whole word only.
var secretNames = map[string]bool{
	"pass": true, "pwd": true, "psk": true, "rootpw": true, "dsn": true, "tokens": true, "secrets": true, "dockercfg": true,
	// Kernel parameters of Talos that hold a configuration, an environment or a login.
	"talosconfiginline": true, "talosconfigearly": true, "talosenvironment": true, "talosconfigoauthextravariable": true,
}

// plainNames end like a secret, and hold the name of a Kubernetes Secret by convention.
var plainNames = map[string]bool{
	"existingsecret": true, "existingsecrets": true, "imagepullsecret": true, "imagepullsecrets": true,
	"externalsecrets": true, "sealedsecrets": true, // the settings of an operator
	"credentialproviderconfig": true, // of the kubelet: what to run for which image
}

// secretWords are secret wherever they stand in a name, unless a word of plainTails ends it.
var secretWords = set("pass passwd password passwords pwd pw passphrase passphrases passcode secret secrets token tokens " +
	"credential credentials creds pat jwt psk")

// keyWords make a secret of the "key" that they stand before.
var keyWords = set("private secret api access encryption encrypt hmac unseal recovery signing sign shared preshared auth master account root " +
	"session cookie crypto cipher aes symmetric license deploy webhook ssh tls ssl wireguard wg service admin bearer storage client server cert certificate")

// plainTails end the names of what is told about a secret: where it is, how long it lives, what it may be.
var plainTails = set("name names ref refs reference references selector selectors file files filename path paths dir directory mount volume " +
	"namespace namespaces store stores provider providers class template url uri endpoint host arn " +
	"type types kind format algorithm algorithms alg mode version versions length size bits min max count limit policy policies rule rules " +
	"expiration expiry expires expire ttl lifetime duration seconds minutes hours days period interval rotation timeout age " +
	"enabled enable disabled required optional issuer audience audiences header headers prefix suffix method " +
	"review reviews reviewer request requests controller manager operator through field label labels annotations")

// plainIDs are what an "id" at the end names without giving it away: AWS_ACCESS_KEY_ID. A secret-id of Vault is the secret.
var plainIDs = set("key keys token credential credentials")

// countWords stand before the tokens of a language model or a rate limit.
var countWords = set("max min num total count")

func set(words string) map[string]bool {
	found := map[string]bool{}
	for _, word := range strings.Fields(words) {
		found[word] = true
	}

	return found
}

// queryNames are secret in the query of a URL, too.
var queryNames = map[string]bool{"key": true, "sig": true, "signature": true, "code": true, "xamzsignature": true, "auth": true}

var dashes = strings.NewReplacer("-", "", "_", "", ".", "", " ", "")

// maxName bounds what counts as the name of a key.
const maxName = 256

func sensitive(name string) bool {
	if len(name) > maxName {
		name = name[len(name)-maxName:]
	}

	flat := dashes.Replace(strings.ToLower(name))

	switch {
	case secretNames[flat], strings.HasSuffix(strings.ToLower(name), ".key"): // tls.key is the name of a file
		return true
	case plainNames[flat]:
		return false
	}

	for _, suffix := range secretSuffixes {
		if strings.HasSuffix(flat, suffix) {
			return true
		}
	}

	// What holds more than a name does is a flag with its value, or prose.
	return !strings.ContainsAny(name, "=:,;\"'`(){}[]<>") && secretByWords(wordsOf(name))
}

// secretByWords looks for the last word that says "secret", and at how the name goes on behind it.
func secretByWords(words []string) bool {
	for i := len(words) - 1; i >= 0; i-- {
		word := words[i]

		switch {
		case secretWords[word], strings.HasSuffix(word, "password"):
			if word == "tokens" && i > 0 && countWords[words[i-1]] {
				continue
			}
		case word != "key" && word != "keys":
			continue
		case i == 0 || !keyWords[words[i-1]] && (words[0] != "x" || i < len(words)-1): // X-Whatever-Key is a header
			continue
		}

		last := words[len(words)-1]

		return i == len(words)-1 || !plainTails[last] && (last != "id" && last != "ids" || !plainIDs[word])
	}

	return false
}

// wordsOf splits a name at everything but letters, and where the case changes: clientSecret2, APIKey. Digits are left out, since
// they only count.
func wordsOf(name string) []string {
	var words []string

	runes := []rune(name)
	start := 0

	cut := func(end int) {
		if start < end {
			words = append(words, strings.ToLower(string(runes[start:end])))
		}
	}

	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r):
			cut(i)
			start = i + 1
		case i > start && unicode.IsUpper(r) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			cut(i)
			start = i
		}
	}

	cut(len(runes))

	return words
}

// referenceKeys are what a mapping holds that only says where a secret is: secretKeyRef, a volume of a pod, and so on.
var referenceKeys = map[string]bool{
	"name": true, "secretName": true, "path": true, // one of these has to be there
	"namespace": true, "key": true, "optional": true, "items": true, "defaultMode": true, "kind": true, "apiVersion": true, "apiGroup": true,
	"group": true, "version": true, "expirationSeconds": true, "audience": true, "mode": true, "fieldPath": true, "uid": true, "resourceVersion": true,
}

// schemaKeys are what the schema of a secret holds, in a CustomResourceDefinition: not the secret, nor its default.
var schemaKeys = map[string]bool{
	"type": true, "description": true, "title": true, "format": true, "pattern": true, "minLength": true, "maxLength": true, "nullable": true,
	"properties": true, "required": true, "items": true, "additionalProperties": true, "x-kubernetes-map-type": true,
}

// isSchema tells the schema of a value called "password" from such a value.
func isSchema(keys []string) bool {
	typed := false

	for _, key := range keys {
		if !schemaKeys[key] {
			return false
		}

		typed = typed || key == "type"
	}

	return typed
}

func isReference(keys []string) bool {
	named := false

	for _, key := range keys {
		if !referenceKeys[key] {
			return false
		}

		named = named || key == "name" || key == "secretName" || key == "path"
	}

	return named
}
