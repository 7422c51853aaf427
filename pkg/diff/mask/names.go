package mask

import "strings"

// Keys that say by their name that the value is secret, in any document. A name is compared in lower case and without
// "-", "_", "." and spaces: apiToken, api_token and API-TOKEN are one.

// secretSuffixes end the names of secrets: rootPassword, WIREGUARD_PRIVATE_KEY, hcloud-token.
var secretSuffixes = []string{
	"password", "passwords", "passwd", "passphrase", "passphrases", "passcode",
	"secret", "token", "bearer", "authorization", "credential", "credentials", "jwt",
	"privatekey", "privatekeys", "presharedkey", "sharedkey", "secretkey", "accesskey", "apikey", "apikeys", "authkey", "signingkey",
	"encryptionkey", "masterkey", "accountkey", "keydata", "dockerconfigjson", "connectionstring",
}

// secretNames are secret as a whole word only.
var secretNames = map[string]bool{
	"pass": true, "pwd": true, "psk": true, "dsn": true, "tokens": true, "secrets": true, "dockercfg": true,
	// Kernel parameters of Talos that hold a configuration, an environment or a login.
	"talosconfiginline": true, "talosconfigearly": true, "talosenvironment": true, "talosconfigoauthextravariable": true,
}

// plainNames end like a secret, and hold the name of a Kubernetes Secret by convention.
var plainNames = map[string]bool{"existingsecret": true, "imagepullsecret": true}

// queryNames are secret in the query of a URL, too.
var queryNames = map[string]bool{"key": true, "sig": true, "signature": true, "code": true, "xamzsignature": true, "auth": true}

var dashes = strings.NewReplacer("-", "", "_", "", ".", "", " ", "")

// maxName bounds what counts as the name of a key.
const maxName = 256

func sensitive(name string) bool {
	if len(name) > maxName {
		name = name[len(name)-maxName:]
	}

	name = dashes.Replace(strings.ToLower(name))
	if secretNames[name] {
		return true
	}

	for _, suffix := range secretSuffixes {
		if strings.HasSuffix(name, suffix) {
			return !plainNames[name]
		}
	}

	return false
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
