package access_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/access"
)

func TestNewSecrets(t *testing.T) {
	t.Parallel()

	good := access.SecretsConfig{Form: access.Flux, Instance: "one"}
	_, err := access.NewSecrets(good)
	must(t, err)

	for name, change := range map[string]func(*access.SecretsConfig){
		"for":                    func(c *access.SecretsConfig) { c.Form = "helm" },
		"name":                   func(c *access.SecretsConfig) { c.Name = "same" },
		"name: \"{cluster}-{":    func(c *access.SecretsConfig) { c.Name = "{cluster}-{cluster}" },
		"name: \"{cluster}/x":    func(c *access.SecretsConfig) { c.Name = "{cluster}/x" },
		"instance":               func(c *access.SecretsConfig) { c.Instance = "" },
		"instance: \"a b":        func(c *access.SecretsConfig) { c.Instance = "a b" },
		"labels: \"a b":          func(c *access.SecretsConfig) { c.Labels = map[string]string{"a b": ""} },
		"labels: \"a\"":          func(c *access.SecretsConfig) { c.Labels = map[string]string{"a": "b c"} },
		"labels: omni-syncd/":    func(c *access.SecretsConfig) { c.Labels = map[string]string{"omni-syncd/instance": "two"} },
		"labels: app.kubernetes": func(c *access.SecretsConfig) { c.Labels = map[string]string{"app.kubernetes.io/managed-by": "me"} },
		"labels: argocd.": func(c *access.SecretsConfig) {
			c.Labels = map[string]string{"argocd.argoproj.io/secret-type": "repository"}
		},
	} {
		cfg := good
		change(&cfg)

		_, err := access.NewSecrets(cfg)
		fails(t, err, name)
	}
}

// A name that is no DNS name leads nowhere: there is no client that could be asked.
func TestSecrets_OddName(t *testing.T) {
	t.Parallel()

	s, err := access.NewSecrets(access.SecretsConfig{Form: access.Flux, Instance: "one"})
	must(t, err)

	for _, name := range []string{"", "../x", "a/b", "A", "a.b", "a_b", "-a", "a\x00", "{cluster}", strings.Repeat("a", 64), "ä"} {
		_, err := s.Check(t.Context(), name)
		fails(t, err, "no DNS name")
		_, err = s.Recall(t.Context(), name)
		fails(t, err, "no DNS name")
		fails(t, s.Put(t.Context(), name, access.Configs{Kubeconfig: withToken(here, "prod", secret)}), "no DNS name")
		must(t, s.Remove(t.Context(), name)) // it never got one
	}
}

// A kubeconfig that a controller cannot use is told, and not its token.
func TestSecrets_Unusable(t *testing.T) {
	t.Parallel()

	user := func(text string) string {
		return strings.Replace(string(withToken(here, "prod", secret)), "{token: "+secret+"}", text, 1)
	}

	for word, kubeconfig := range map[string]string{
		"cannot be read":   "token: [" + secret,
		"current context":  "{apiVersion: v1, kind: Config}",
		"leads nowhere":    strings.Replace(user("{token: "+secret+"}"), "clusters: [{name: lab", "clusters: [{name: x", 1),
		"runs a program":   string(login(here, "prod")),
		"files":            user("{tokenFile: /x}"),
		"no token":         user("{client-certificate-data: eA==}"),
		"more than a":      user("{token: " + secret + ", as: jane}"),
		"files that are":   user("{client-certificate: /x, client-key-data: eA==}"),
		"does not fit":     "",
		"no URL of a serv": strings.Replace(user("{token: "+secret+"}"), "https://lab.example.com:8100", "nowhere", 1),
	} {
		for _, form := range []access.Form{access.ArgoCD, access.Flux} {
			if form == access.Flux && strings.HasPrefix(word, "no URL") {
				continue // who reads it decides
			}

			s, err := access.NewSecrets(access.SecretsConfig{Form: form, Instance: "one"})
			must(t, err)

			if word == "does not fit" {
				fails(t, s.Put(t.Context(), "prod", access.Configs{Kubeconfig: withToken(here, "prod", secret+strings.Repeat("x", 1<<20))}), "do not fit")

				continue
			}

			t.Run(fmt.Sprint(form, " ", word), func(t *testing.T) {
				fails(t, s.Put(t.Context(), "prod", access.Configs{Kubeconfig: []byte(kubeconfig)}), word, "prod")
			})
		}
	}
}
