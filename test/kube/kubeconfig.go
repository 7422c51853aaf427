package kube

import (
	"path/filepath"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig writes a kubeconfig of somebody who may do everything, and returns the path.
func (c *Cluster) Kubeconfig(t testing.TB) string {
	t.Helper()

	return writeKubeconfig(t, c.Config(), "default")
}

// Kubeconfig makes a kubeconfig go through the proxy: it writes a copy of the file that
// leads there, and returns the path.
func (p *Proxy) Kubeconfig(t testing.TB, path string) string {
	t.Helper()

	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}

	for _, cluster := range config.Clusters {
		cluster.Server = p.URL
	}

	return write(t, config)
}

// writeKubeconfig writes a kubeconfig that holds all it needs.
func writeKubeconfig(t testing.TB, access *rest.Config, namespace string) string {
	t.Helper()

	const name = "test"

	return write(t, &api.Config{
		Clusters:       map[string]*api.Cluster{name: {Server: access.Host, CertificateAuthorityData: access.CAData}},
		AuthInfos:      map[string]*api.AuthInfo{name: {Token: access.BearerToken, ClientCertificateData: access.CertData, ClientKeyData: access.KeyData}},
		Contexts:       map[string]*api.Context{name: {Cluster: name, AuthInfo: name, Namespace: namespace}},
		CurrentContext: name,
	})
}

func write(t testing.TB, config *api.Config) string {
	t.Helper()

	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}

	return path
}
