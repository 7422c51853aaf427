package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Form is for whom the Secrets of a [Secrets] are.
type Form string

// The forms.
const (
	// ArgoCD is a cluster of Argo CD: `name`, `server` and `config`.
	ArgoCD Form = "argocd"
	// Flux is a kubeconfig in `value`, as `spec.kubeConfig.secretRef` of Flux reads it, and
	// others that follow Cluster API.
	Flux Form = "flux"
)

const (
	keyName, keyServer, keyConfig = "name", "server", "config"
	keyValue, keyTalosconfig      = "value", "talosconfig"

	argoLabel, argoCluster = "argocd.argoproj.io/secret-type", "cluster"
	// argoQuery makes the URL of a cluster its own: Argo CD tells clusters apart by that, and
	// behind Omni they all have the same one. No client of Kubernetes sends it.
	argoQuery = "cluster"
)

// formKeys are the keys that some form writes; others in a Secret are somebody else's.
var formKeys = []string{keyName, keyServer, keyConfig, keyValue, keyTalosconfig}

// argoConfig is what Argo CD reads in `config`.
type argoConfig struct {
	BearerToken string  `json:"bearerToken,omitempty"`
	ProxyURL    string  `json:"proxyUrl,omitempty"`
	TLS         argoTLS `json:"tlsClientConfig"`
}

type argoTLS struct {
	Insecure   bool   `json:"insecure"`
	ServerName string `json:"serverName,omitempty"`
	CertData   []byte `json:"certData,omitempty"`
	KeyData    []byte `json:"keyData,omitempty"`
	CAData     []byte `json:"caData,omitempty"`
}

// encode returns what a Secret holds.
func (f Form) encode(cluster string, configs Configs) (map[string][]byte, error) {
	data := map[string][]byte{}

	if configs.Kubeconfig != nil {
		to, who, err := selfContained(configs.Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("the kubeconfig that Omni gave for the cluster %s is of no use to %s: %w", cluster, f, err)
		}

		if f == Flux {
			data[keyValue] = configs.Kubeconfig
		} else if err := encodeArgo(data, cluster, to, who); err != nil {
			return nil, err
		}
	}

	if configs.Talosconfig != nil {
		data[keyTalosconfig] = configs.Talosconfig
	}

	return data, nil
}

func encodeArgo(data map[string][]byte, cluster string, to *api.Cluster, who *api.AuthInfo) error {
	server, err := url.Parse(to.Server)
	if err != nil || server.Host == "" || server.RawQuery != "" {
		return fmt.Errorf("the kubeconfig that Omni gave for the cluster %s leads to no URL of a server", cluster)
	}

	server.RawQuery = url.Values{argoQuery: {cluster}}.Encode()

	config, err := json.Marshal(argoConfig{
		BearerToken: who.Token, ProxyURL: to.ProxyURL,
		TLS: argoTLS{
			Insecure: to.InsecureSkipTLSVerify, ServerName: to.TLSServerName,
			CAData: to.CertificateAuthorityData, CertData: who.ClientCertificateData, KeyData: who.ClientKeyData,
		},
	})
	if err != nil {
		return err
	}

	data[keyName], data[keyServer], data[keyConfig] = []byte(cluster), []byte(server.String()), config

	return nil
}

// decode is the reverse of encode: encoded again, it is the same.
func (f Form) decode(data map[string][]byte) (Configs, error) {
	configs := Configs{Talosconfig: data[keyTalosconfig]}

	if f == Flux || data[keyConfig] == nil {
		configs.Kubeconfig = data[keyValue]

		return configs, nil
	}

	var config argoConfig
	if err := json.Unmarshal(data[keyConfig], &config); err != nil {
		return Configs{}, errors.New("its config is not what Argo CD reads")
	}

	server, err := url.Parse(string(data[keyServer]))
	if err != nil {
		return Configs{}, errors.New("its server is no URL")
	}

	server.RawQuery = ""
	name := string(data[keyName])

	configs.Kubeconfig, err = clientcmd.Write(api.Config{
		Clusters: map[string]*api.Cluster{name: {
			Server: server.String(), InsecureSkipTLSVerify: config.TLS.Insecure, TLSServerName: config.TLS.ServerName,
			CertificateAuthorityData: config.TLS.CAData, ProxyURL: config.ProxyURL,
		}},
		AuthInfos:      map[string]*api.AuthInfo{name: {Token: config.BearerToken, ClientCertificateData: config.TLS.CertData, ClientKeyData: config.TLS.KeyData}},
		Contexts:       map[string]*api.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	})

	return configs, err
}

// selfContained returns where a kubeconfig leads to and as whom, if a controller in a pod can
// use it: it needs no file, no program and no person.
func selfContained(kubeconfig []byte) (*api.Cluster, *api.AuthInfo, error) {
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, nil, errors.New("it cannot be read as a kubeconfig") // the reason may quote the token
	}

	current := config.Contexts[config.CurrentContext]
	if current == nil {
		return nil, nil, errors.New("it has no current context")
	}

	to, who := config.Clusters[current.Cluster], config.AuthInfos[current.AuthInfo]

	switch {
	case to == nil || who == nil || to.Server == "":
		return nil, nil, errors.New("its current context leads nowhere")
	case to.CertificateAuthority != "" || who.TokenFile != "" || who.ClientCertificate != "" || who.ClientKey != "":
		return nil, nil, errors.New("it needs files that are elsewhere")
	case who.Exec != nil || who.AuthProvider != nil:
		return nil, nil, errors.New("it runs a program to log in; give a serviceAccount")
	case who.Impersonate != "" || who.Username != "":
		return nil, nil, errors.New("it logs in with more than a token")
	case who.Token == "" && (len(who.ClientCertificateData) == 0 || len(who.ClientKeyData) == 0):
		return nil, nil, errors.New("there is no token in it")
	}

	return to, who, nil
}

// digestOfData tells apart what Secrets hold.
func digestOfData(data map[string][]byte) string {
	var all []byte

	for _, key := range slices.Sorted(maps.Keys(data)) {
		if slices.Contains(formKeys, key) {
			all = fmt.Appendf(all, "%s %d\n%s", key, len(data[key]), data[key])
		}
	}

	return digest(all)
}
