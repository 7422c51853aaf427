package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/config"
)

func TestUseKubernetes(t *testing.T) {
	const kubeconfig = `{apiVersion: v1, kind: Config, current-context: here,
clusters: [{name: here, cluster: {server: "https://127.0.0.1:1", certificate-authority: ca.crt}}],
users: [{name: me, user: {tokenFile: token}}],
contexts: [{name: here, context: {cluster: here, user: me, namespace: ours}}]}`

	t.Setenv("KUBERNETES_SERVICE_HOST", "")

	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}

		return path
	}

	path := file("kubeconfig", kubeconfig)
	file("token", "secret")
	file("ca.crt", "")

	access, namespace, err := useKubernetes(&config.Kubernetes{KubeconfigFile: path})
	if err != nil {
		t.Fatal(err)
	}

	// Files are relative to the kubeconfig.
	if access.Host != "https://127.0.0.1:1" || access.BearerTokenFile != filepath.Join(folder, "token") || access.CAFile != filepath.Join(folder, "ca.crt") || namespace != "ours" {
		t.Errorf("got %v in %q", access, namespace)
	}

	if _, namespace, err = useKubernetes(&config.Kubernetes{KubeconfigFile: path, Namespace: "chosen"}); err != nil || namespace != "chosen" {
		t.Errorf("got %q, %v", namespace, err)
	}

	if _, namespace, err = useKubernetes(&config.Kubernetes{KubeconfigFile: file("plain", strings.Replace(kubeconfig, ", namespace: ours", "", 1))}); err != nil || namespace != "default" {
		t.Errorf("without a namespace it is %q, %v", namespace, err)
	}

	for name, text := range map[string]string{
		"missing": "", "broken": "a: [secret", "wrong": "{apiVersion: v1, kind: Config, users: secret}", "token": "secret", "nothing": "{apiVersion: v1, kind: Config}",
		"no context": strings.Replace(kubeconfig, "current-context: here", "current-context: there", 1),
	} {
		path := filepath.Join(folder, "no such file")
		if text != "" {
			path = file(name, text)
		}

		_, _, err := useKubernetes(&config.Kubernetes{KubeconfigFile: path})
		if err == nil || !strings.Contains(err.Error(), "kubernetes.kubeconfigFile") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}

	if _, _, err := useKubernetes(&config.Kubernetes{}); err == nil || !strings.Contains(err.Error(), "kubernetes.kubeconfigFile") {
		t.Errorf("outside of a cluster: %v", err)
	}
}
