package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/omni-syncd/omni-syncd/pkg/config"
)

// podNamespace is where Kubernetes tells a pod its namespace.
const podNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// useKubernetes says how to reach the cluster that the daemon runs in, and which namespace
// is its own. Nothing is asked of the cluster.
func useKubernetes(cfg *config.Kubernetes) (*rest.Config, string, error) {
	find := fromPod
	if cfg.KubeconfigFile != "" {
		find = fromKubeconfig
	}

	access, namespace, err := find(cfg)
	if err != nil {
		return nil, "", err
	}

	access.UserAgent = "omni-syncd/" + version
	access.WarningHandler = rest.NoWarnings{} // else they go to stderr, past the log

	return access, firstOf(cfg.Namespace, namespace), nil
}

func fromKubeconfig(cfg *config.Kubernetes) (*rest.Config, string, error) {
	rules := clientcmd.ClientConfigLoadingRules{ExplicitPath: cfg.KubeconfigFile}

	loaded, err := rules.Load()
	if err != nil {
		return nil, "", fmt.Errorf("kubernetes.kubeconfigFile: %w", err)
	}

	client := clientcmd.NewDefaultClientConfig(*loaded, nil)

	access, err := client.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("kubernetes.kubeconfigFile: %s: %w", cfg.KubeconfigFile, err)
	}

	namespace, _, err := client.Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("kubernetes.kubeconfigFile: %s: %w", cfg.KubeconfigFile, err)
	}

	return access, namespace, nil
}

func fromPod(cfg *config.Kubernetes) (*rest.Config, string, error) {
	access, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, "", errors.New("it needs a Kubernetes cluster: run it in one, with a service account, or say with `kubernetes.kubeconfigFile` how to reach one")
	}

	if err != nil {
		return nil, "", fmt.Errorf("the service account of the pod: %w", err)
	}

	if cfg.Namespace != "" {
		return access, "", nil
	}

	namespace, err := os.ReadFile(podNamespace)
	if err != nil {
		return nil, "", fmt.Errorf("the namespace of the pod, which `kubernetes.namespace` can say in its place: %w", err)
	}

	return access, strings.TrimSpace(string(namespace)), nil
}
