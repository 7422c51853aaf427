package mask

import (
	"strings"
	"testing"
	"time"
)

func TestNames(t *testing.T) {
	for _, name := range []string{
		"tls.key", "server.key", "ca.KEY", "DB_PASS", "SMTP_PASS", "DB_PWD", "MYSQL_PWD", "DB_PASSWORD_PROD", "PASSWORD_1", "password2", "SECRET_KEY_BASE",
		"clientSecretValue", "privateKeyPem", "unseal_key", "hmacKey", "GITHUB_PAT", "encryptionKeys", "encryption.key", "recovery-key", "passwordHash",
		"adminPasswordBcrypt", "session_secret_base64", "credentialsJson", "APIKeys", "apiKeyValue", "secret-id", "VAULT_SECRET_ID", "token2", "dbCreds",
		"X-Vault-Key", "secretData", "oauth2TokenProd", "tokenSecretNamePassword", "ssh-key", "aws_secret_access_key", "rootPasswordOld", "secretKeyPairPem",
	} {
		if !sensitive(name) {
			t.Errorf("%s is shown", name)
		}
	}

	for _, name := range []string{
		"secretName", "secretKeyRef", "secretRef", "tokenExpiration", "tokenExpirationSeconds", "keyAlgorithm", "publicKey", "publicKeys", "imagePullSecrets",
		"key", "keys", "sshAuthorizedKeys", "secretNamespace", "passwordFile", "API_KEY_ID", "AWS_ACCESS_KEY_ID", "secretStoreRef", "tokenTTL", "passwordPolicy",
		"encryptionKeyAlgorithm", "max_tokens", "bypass", "compass", "path", "patch", "pattern", "keyboard", "monkey", "primaryKey", "topologyKey",
		"privateKeySecretRef", "credentialsSecretRef", "tokenReviewerURL", "passthrough", "PATH", "sortKeys", "token-id", "--flag-for-token=x=y", "x",
	} {
		if sensitive(name) {
			t.Errorf("%s is masked", name)
		}
	}
}

const planted = "hunter2"

// Each text holds a secret and a word that is none.
func TestLeaks(t *testing.T) {
	for name, text := range map[string]string{
		"list of Secrets":           "apiVersion: v1\nkind: SecretList\nshown: yes\nitems: [{data: {a: hunter2}, stringData: {b: hunter2}}]\n",
		"list of Secrets, inline":   "cluster:\n  inlineManifests:\n    - name: shown\n      contents: |\n        kind: SecretList\n        items:\n          - metadata: {name: a}\n            data:\n              a: hunter2\n",
		"list of Secrets, template": "a: |\n  kind: SecretList\n  {{ if .x }}\n  items: [{data: {a: hunter2}}]\nb: shown\n",
		"list with Secrets":         "apiVersion: v1\nkind: List\nitems:\n  - kind: ConfigMap\n    data: {a: shown}\n  - kind: Secret\n    data: {a: hunter2}\n",
		"files":                     "kind: ConfigMap\ndata:\n  shown: a\n  tls.key: hunter2\n  server.key: |\n    hunter2\n",
		"variables":                 "kind: Pod\nspec: {containers: [{name: shown, env: [{name: REDIS_PASS, value: hunter2}]}]}\n",
		"authorization":             "a: |\n  shown\n  curl -H 'Authorization: Bearer hunter2' https://h\n  Authorization: Basic hunter2\n",
		"authorization, escaped":    "a: |\n  {shown}\n  -H \"{\\\"Authorization\\\": \\\"Basic hunter2\\\"}\"\n",
		"key headers":               "a: |\n  shown\n  curl -H \"X-Custom-Key: hunter2\" -H X-Vault-Token:hunter2 https://h\n",
		"other headers":             "a: |\n  shown\n  curl -H \"Private-Token: hunter2\" https://h\n",
		"curl":                      "a: |\n  shown\n  curl -u user:hunter2 https://h\n  curl --user=\"me:hunter2\" h\n  curl -sfume:x h -uuser:hunter2\n",
		"curl in a list":            "command: [/usr/bin/curl, -u, 'user:hunter2', https://shown]\n",
		"netrc":                     "a: |\n  machine shown\n  login me\n  password hunter2\n  machine b login me password hunter2\n",
		"secret-id":                 "a: |\n  shown {\n    secret-id = \"hunter2\"\n  }\n",
		"endpoint without scheme":   "apiVersion: v1alpha1\nkind: EventSinkConfig\nendpoint: \"shown:hunter2@h:8080\"\n",
	} {
		got, err := Text(text, Options{})
		if err != nil || strings.Contains(got, planted) || !strings.Contains(got, "shown") && name != "endpoint without scheme" {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

func TestHarmlessTexts(t *testing.T) {
	for _, text := range []string{
		"image: nginx:1.25@sha256:0f4e1a2b\n",
		"tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]\n",
		"matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]\n",
		"imagePullSecrets: [{name: regcred}]\n",
		"volumes: [{secret: {secretName: tls, items: [{key: tls.crt, path: tls.crt}]}}]\n",
		"note: |\n  Basic usage: the bearer of this\n  docker run -u me:us x\n",
		"kind: SecretStore\nspec: {provider: {a: b}}\n",
	} {
		if got, err := Text(text, Options{}); err != nil || got != text {
			t.Errorf("%v %s is shown as %s", err, text, got)
		}
	}
}

func TestQuotedInMessages(t *testing.T) {
	for _, message := range []string{
		"yaml: construct errors:\n  line 1: cannot construct !!str `hunter2` into map[string]string",
		"yaml: unmarshal errors:\n  line 4: cannot unmarshal !!str `hunter2...` into v1alpha1.Bool\n  line 5: cannot unmarshal !!int `hun`ter2` into x",
		"cannot unmarshal !!str \"hunter2\" into int",
		`line 3: parse "hunter2://%zz": invalid URL escape "%zz"`,
		`strconv.Atoi: parsing "hunter2": invalid syntax`,
		`ParseAddr("hunter2"): unable to parse IP`,
		`time: invalid duration "hunter2"`,
		"cannot parse `hunter2`",
	} {
		if got := Message(message); strings.Contains(got, planted) || strings.Contains(got, "ter2") || !strings.Contains(got, "(secret)") {
			t.Error(got)
		}
	}

	const plain = `the cluster "prod" is locked: "talos" is not in {"a": 1}`
	if got := Message(plain); got != plain {
		t.Error(got)
	}
}

// The time for a text grows as the text does. Quadratic time would be minutes here, and linear is a second: the bound is far from both.
func TestTimeIsLinear(t *testing.T) {
	for name, text := range map[string]string{
		"many secrets in a block":     "a: |\n  x\n  " + strings.Repeat(`password="`, 200_000),
		"quotes that do not end":      "a: |\n  x: [\n  " + strings.Repeat(`{password: '`, 150_000),
		"lines that go on":            "a: |\n  x: [\n" + strings.Repeat("  password: \\\n", 150_000),
		"many values in one line":     "a: [" + strings.Repeat("ab,", 200_000) + "x]",
		"headers that do not end":     "a: |\n  x: [\n  " + strings.Repeat(`"token: `, 50_000),
		"authorization without value": "a: |\n  x: [\n  " + strings.Repeat(`authorization: `, 25_000),
		"logins":                      "a: |\n  x: [\n  " + strings.Repeat(`curl -u a machine a `, 25_000),
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})

			go func() {
				defer close(done)

				_, _ = Text(text, Options{})
			}()

			select {
			case <-done:
			case <-time.After(30 * time.Second):
				t.Fatalf("%d bytes take more than 30 s", len(text))
			}
		})
	}
}

// A JSON document may stand in one line: what was walked is not walked again.
func TestCursorGoesOn(t *testing.T) {
	text := "é" + strings.Repeat("a", 100)
	c := &cursor{text: text, lines: lineStarts(text)}

	for column := 1; column <= 102; column++ {
		if got, want := c.seek(1, column), len(string([]rune(text)[:column-1])); got != want {
			t.Fatalf("column %d is at %d, not at %d", column, got, want)
		}
	}

	if got := c.seek(1, 2); got != 2 {
		t.Errorf("back at %d", got)
	}
}
