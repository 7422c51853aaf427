// Package kube runs a real kube-apiserver and its etcd on loopback, for tests of what
// omni-syncd does in a cluster. There is no kubelet, no scheduler and no controller manager:
// what is written stays as it is written, and a namespace that is deleted never goes.
//
// The environment variable OMNI_SYNCD_TEST_KUBE names the folder with the two binaries,
// which `make test-kube` builds. Without it these tests are skipped.
//
// A start takes some seconds. Tests of one package share a cluster with [Shared], if their
// TestMain runs [Wrap], and keep apart with a namespace each. A test that breaks the cluster
// has one of its own with [Start].
package kube
