package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/omni-syncd/omni-syncd/pkg/config"
)

func TestLoad(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "omni-syncd.yaml")

	write(t, path, `
omni:
  endpoint: https://example.omni.siderolabs.io
  serviceAccountKeyFile: key
  newer: plan
webhooks: {listen: "127.0.0.1:9292", certFile: cert.pem, keyFile: key.pem}
api: {socket: api.sock}
kubernetes: {kubeconfigFile: kubeconfig, namespace: omni-syncd}
sources:
  - name: fleet
    git:
      url: ./fleet.git
      branch: main
      tokenFile: token
      ssh: {knownHostsFile: /etc/ssh/known_hosts}
      githubApp: {privateKeyFile: app.pem}
      verify: {mode: HEAD, keys: [jane.asc]}
    webhook: {provider: github, secretFile: hook}
    path: clusters
    interval: 30s
    prune: true
    maxDelete: 3
    sync: manual
    maxDeleteResources: 0
    deleteAfter: 1h
    origin: git.example.com/old/fleet
    allow:
      clusters: ["team-a-*"]
      kinds: [Cluster, MachineClass]
      takeFrom: [legacy]
  - name: local
    dir: {path: templates}
`)

	got, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}

	want := &config.Config{
		Omni:  config.Omni{Endpoint: "https://example.omni.siderolabs.io", ServiceAccountKeyFile: filepath.Join(folder, "key"), Newer: "plan"},
		Retry: config.Retry{MaxInterval: config.Duration(time.Minute)}, TeardownWarnAfter: config.Duration(15 * time.Minute),
		Deletions: "allowed", DeleteWindow: config.Duration(time.Hour),
		Webhooks: &config.Webhooks{Listen: "127.0.0.1:9292", CertFile: filepath.Join(folder, "cert.pem"), KeyFile: filepath.Join(folder, "key.pem")},
		API:      config.API{Socket: filepath.Join(folder, "api.sock")}, Kubernetes: config.Kubernetes{KubeconfigFile: filepath.Join(folder, "kubeconfig"), Namespace: "omni-syncd"},
		Sources: []config.Source{
			{
				Name: "fleet", Path: "clusters",
				Git: &config.Git{
					URL: filepath.Join(folder, "fleet.git"), Branch: "main", TokenFile: filepath.Join(folder, "token"),
					SSH:       config.SSH{KnownHostsFile: "/etc/ssh/known_hosts"},
					GitHubApp: &config.GitHubApp{PrivateKeyFile: filepath.Join(folder, "app.pem")},
					Verify:    &config.Verify{Mode: "HEAD", Keys: []string{filepath.Join(folder, "jane.asc")}},
				},
				Webhook:  &config.Webhook{Provider: "github", SecretFile: filepath.Join(folder, "hook")},
				Interval: config.Duration(30 * time.Second), Prune: true, MaxDelete: new(3), Foreign: "keep", Sync: "manual", Deletion: "allowed",
				Origin: "git.example.com/old/fleet", DeleteAfter: new(config.Duration(time.Hour)), MaxDeleteResources: new(0), MaxDeleteMachines: new(10),
				Allow: config.Allow{Clusters: []string{"team-a-*"}, Kinds: []string{"Cluster", "MachineClass"}, TakeFrom: []string{"legacy"}},
			},
			{
				Name: "local", Dir: &config.Dir{Path: filepath.Join(folder, "templates")},
				Interval: config.Duration(time.Minute), MaxDelete: new(1), Foreign: "keep", Sync: "auto", Deletion: "allowed",
				DeleteAfter: new(config.Duration(5 * time.Minute)), MaxDeleteResources: new(5), MaxDeleteMachines: new(10),
			},
		},
	}

	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Every mistake is named, with the line where YAML knows it, and all of them at once.
func TestParseProblems(t *testing.T) {
	for _, test := range []struct{ name, yaml, want string }{
		{"empty", "", "it is empty"},
		{"no source", "omni: {endpoint: x}", "sources: there is none"},
		{"unknown key", "sources:\n  - name: a\n    git: {url: x}\n    prunes: true\n", "line 4: field prunes not found"},
		{"bad interval", "sources:\n  - name: a\n    git: {url: x}\n    interval: often\n", `line 4: "often" is not a duration`},
		{"short interval", "sources: [{name: a, git: {url: x}, interval: 10ms}]", "interval: 10ms is too short"},
		{"bad name", "sources: [{name: A B, git: {url: x}}]", `"A B" cannot be the name of a source`},
		{"same name", "sources: [{name: a, git: {url: x}}, {name: a, git: {url: y}}]", `sources[1]: the name "a" is taken`},
		{"neither", "sources: [{name: a}]", "it needs `git:` or `dir:`"},
		{"both", "sources: [{name: a, git: {url: x}, dir: {path: y}}]", "it has both"},
		{"no url", "sources: [{name: a, git: {branch: main}}]", "git.url: it is missing"},
		{"two at once", "sources: [{name: a}, {name: b, dir: {}}]", "sources[1]: dir.path: it is missing"},
		{"confirm, which is no key any more", "sources: [{name: a, git: {url: x}, confirm: [x]}]", "omni-syncd confirm NAME"},
		{"negative", "sources: [{name: a, git: {url: x}, maxDelete: -1}]", "maxDelete: it cannot be negative"},
		{"foreign", "sources: [{name: a, git: {url: x}, foreign: delete}]", `foreign: "delete" means nothing; use "keep" or "prune"`},
		{"two refs", "sources: [{name: a, git: {url: x, branch: main, semver: 1.x}}]", "git: it has branch and semver; choose one"},
		{"verify what", "sources: [{name: a, git: {url: x, verify: {mode: head, keys: [k]}}}]", `git.verify.mode: "head" means nothing; use HEAD, Tag or TagAndHEAD`},
		{"verify which tag", "sources: [{name: a, git: {url: x, verify: {mode: Tag, keys: [k]}}}]", "git.verify.mode: Tag needs a tag to follow"},
		{"verify by whom", "sources: [{name: a, git: {url: x, verify: {mode: HEAD}}}]", "git.verify.keys: there is none"},
		{"webhook without address", "sources: [{name: a, git: {url: x}, webhook: {provider: github, secretFile: s}}]", "webhooks.listen: it is missing"},
		{"webhook without secret", "{webhooks: {listen: ':1'}, sources: [{name: a, git: {url: x}, webhook: {provider: github}}]}", "webhook.secretFile: it is missing"},
		{"webhook of nobody", "{webhooks: {listen: ':1'}, sources: [{name: a, git: {url: x}, webhook: {provider: cvs, secretFile: s}}]}", `webhook.provider: "cvs" is unknown`},
		{"webhook of a directory", "{webhooks: {listen: ':1'}, sources: [{name: a, dir: {path: x}, webhook: {provider: generic, secretFile: s}}]}", "webhook: only a Git repository has one"},
		{"no address", "{webhooks: {listen: '80'}, sources: [{name: a, git: {url: x}, webhook: {provider: generic, secretFile: s}}]}", `webhooks.listen: "80" is no address`},
		{"half a certificate", "{webhooks: {listen: ':1', certFile: c}, sources: [{name: a, git: {url: x}, webhook: {provider: generic, secretFile: s}}]}", "certFile and keyFile belong together"},
		{"webhooks for nobody", "{webhooks: {listen: ':1'}, sources: [{name: a, git: {url: x}}]}", "webhooks: no source has a webhook"},
		{"short retry", "{retry: {maxInterval: 10ms}, sources: [{name: a, git: {url: x}}]}", "retry.maxInterval: 10ms is too short"},
		{"no value", "api:\n  oidc:\n    grants:\n      - value: x\n        clusters:\nsources: [{name: a, git: {url: x}}]", "line 5: clusters has no value"},
		{"certificate for nobody", "{api: {certFile: c}, sources: [{name: a, git: {url: x}}]}", "api.listen: it is missing"},
		{"API without certificate", "{api: {listen: ':1', tokensFile: t}, sources: [{name: a, git: {url: x}}]}", "certFile and keyFile are needed"},
		{"API without a way in", "{api: {listen: ':1', certFile: c, keyFile: k}, sources: [{name: a, git: {url: x}}]}", "nobody could get in by :1"},
		{"API at no address", "{api: {listen: '80', certFile: c, keyFile: k, tokensFile: t}, sources: [{name: a, git: {url: x}}]}", `api.listen: "80" is no address`},
		{"OIDC without audience", "{api: {listen: ':1', certFile: c, keyFile: k, oidc: {issuer: i}}, sources: [{name: a, git: {url: x}}]}", "api.oidc: issuer and audience are needed"},
		{"OIDC without grants", "{api: {listen: ':1', certFile: c, keyFile: k, oidc: {issuer: i, audience: a}}, sources: [{name: a, git: {url: x}}]}", "api.oidc.grants: there is none"},
		{"tokens without limit", "{access: {serviceAccounts: {users: [a], groups: [b]}}, sources: [{name: a, git: {url: x}}]}", "maxTTL and users are needed"},
		{"directory for nobody", "{access: {directory: {path: p, serviceAccount: {user: u}}}, sources: [{name: a, git: {url: x}}]}", "access.directory.serviceAccount: user and ttl are needed"},
		{"directory renewed all the time", "{access: {directory: {path: p, serviceAccount: {user: u, ttl: 10s}}}, sources: [{name: a, git: {url: x}}]}", "access.directory.serviceAccount.ttl: 10s is too short: a token is made anew at half its time; the least is 1m0s"},
		{"directory without path", "{access: {directory: {}}, sources: [{name: a, git: {url: x}}]}", "access.directory.path: it is missing"},
		{"secrets for nobody", "{access: {secrets: {for: helm, serviceAccount: {user: u, ttl: 1h}}}, sources: [{name: a, git: {url: x}}]}", `access.secrets.for: "helm" means nothing`},
		{"secrets renewed all the time", "{access: {secrets: {for: flux, serviceAccount: {user: u, ttl: 10s}}}, sources: [{name: a, git: {url: x}}]}", "access.secrets.serviceAccount.ttl: 10s is too short: a token is made anew at half its time; the least is 1m0s"},
		{"secrets without a token", "{access: {secrets: {for: flux}}, sources: [{name: a, git: {url: x}}]}", "access.secrets.serviceAccount: user and ttl are needed"},
		{"secrets of one name", "{access: {secrets: {for: flux, name: x, serviceAccount: {user: u, ttl: 1h}}}, sources: [{name: a, git: {url: x}}]}", "{cluster} has to stand in it once"},
		{"talosconfig for Argo CD", "{access: {secrets: {for: argocd, talosconfig: true, serviceAccount: {user: u, ttl: 1h}}}, sources: [{name: a, git: {url: x}}]}", "Argo CD has no use for it"},
		{"no namespace", "{kubernetes: {namespace: A/b}, sources: [{name: a, git: {url: x}}]}", `kubernetes.namespace: "A/b" is no name of a namespace`},
		{"two documents", "sources: [{name: a, git: {url: x}}]\n---\nsources: []\n", "more than one YAML document"},
		{"too large", strings.Repeat("# \n", config.MaxSize/3+1), "it is larger than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := config.Parse([]byte(test.yaml))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that says %q", err, test.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("sources: [{name: a, git: {url: x}, interval: 1m}]"))
	f.Add([]byte("sources: [*a]"))
	f.Add([]byte("a: &a [*a]"))

	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := config.Parse(data)
		if err == nil && len(cfg.Sources) == 0 {
			t.Error("a configuration without sources was accepted")
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()

	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The example is the one in the documentation, and it is a valid configuration.
func TestExample(t *testing.T) {
	example, err := os.ReadFile("../../deploy/config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}

	if _, err := config.Parse(example); err != nil {
		t.Error(err)
	}

	docs, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}

	_, shown, _ := strings.Cut(string(example), "\n") // without its comment
	if !strings.Contains(string(docs), shown) {
		t.Error("docs/configuration.md shows another example")
	}
}

// docs/configuration.md names every key.
func TestDocumented(t *testing.T) {
	docs, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}

	for _, key := range keys(reflect.TypeFor[config.Config](), "") {
		if !strings.Contains(string(docs), "`"+key+"`") {
			t.Errorf("%s is not documented", key)
		}
	}
}

// keys returns the paths of all keys below a type, as the documentation writes them.
func keys(typ reflect.Type, path string) []string {
	switch typ.Kind() {
	case reflect.Pointer:
		return keys(typ.Elem(), path)
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Struct {
			return keys(typ.Elem(), path+"[]")
		}
	case reflect.Struct:
		var all []string

		for i := range typ.NumField() {
			name := typ.Field(i).Tag.Get("yaml")
			if path != "" {
				name = path + "." + name
			}

			all = append(all, keys(typ.Field(i).Type, name)...)
		}

		return all
	}

	return []string{path}
}
