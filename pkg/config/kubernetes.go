package config

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Kubernetes is the Kubernetes cluster that the daemon runs in, or another one that it is
// to use in its place.
type Kubernetes struct {
	// KubeconfigFile says how to reach it. Default: the service account of the pod.
	KubeconfigFile string `yaml:"kubeconfigFile"`
	// Namespace is where the daemon keeps what it keeps in the cluster. Default: that of the
	// pod, or of the current context of the kubeconfig.
	Namespace string `yaml:"namespace"`
}

func (k *Kubernetes) check() []error {
	if k.Namespace == "" {
		return nil
	}

	return checkNamespace("kubernetes.namespace", k.Namespace)
}

func checkNamespace(key, namespace string) []error {
	if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
		return []error{fmt.Errorf("%s: %.100q is no name of a namespace: %s", key, namespace, strings.Join(problems, "; "))}
	}

	return nil
}
