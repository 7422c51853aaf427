package access

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The marks of a Secret that a [Secrets] wrote.
const (
	managedByLabel, managedBy = "app.kubernetes.io/managed-by", "omni-syncd"
	// markPrefix begins all of them but the first.
	markPrefix    = "omni-syncd/"
	instanceLabel = markPrefix + "instance"
	clusterLabel  = markPrefix + "cluster"
	sourceLabel   = markPrefix + "source"
	// labelsMark lists the labels that are ours to take away.
	labelsMark  = markPrefix + "labels"
	requestMark = markPrefix + "request"
	digestMark  = markPrefix + "digest"
	renewMark   = markPrefix + "renew"
	expiresMark = markPrefix + "expires"
)

// ours reports whether we wrote a Secret for a cluster, and nobody took it over since.
func (s *Secrets) ours(secret *corev1.Secret, cluster string) bool {
	marks := secret.Labels

	return marks[managedByLabel] == managedBy && marks[instanceLabel] == s.Instance && marks[clusterLabel] == cluster
}

// marked returns a Secret as it should be: everything of ours is as it is now, and everything
// else as it was.
func (s *Secrets) marked(secret *corev1.Secret, cluster string, origin Origin, data map[string][]byte) *corev1.Secret {
	next := secret.DeepCopy()

	for key := range strings.SplitSeq(next.Annotations[labelsMark], ",") {
		delete(next.Labels, key)
	}

	extra := maps.Clone(s.Labels)
	if s.Form == ArgoCD {
		extra = merged(extra, map[string]string{argoLabel: argoCluster})
	}

	next.Labels = merged(next.Labels, extra, map[string]string{managedByLabel: managedBy, instanceLabel: s.Instance, clusterLabel: cluster, sourceLabel: origin.Source})
	next.Annotations = merged(next.Annotations, map[string]string{
		labelsMark:  strings.Join(slices.Sorted(maps.Keys(extra)), ","),
		requestMark: origin.Request, digestMark: digestOfData(data), renewMark: stamp(origin.Renew), expiresMark: stamp(origin.Expires),
	})

	for _, key := range formKeys {
		delete(next.Data, key)
	}

	next.Data = merged(next.Data, data)

	return next
}

func stamp(at time.Time) string {
	if at.IsZero() {
		return ""
	}

	return at.UTC().Format(time.RFC3339)
}

// merged returns the first map with the entries of the others in it.
func merged[V any](into map[string]V, others ...map[string]V) map[string]V {
	if into == nil {
		into = map[string]V{}
	}

	for _, other := range others {
		maps.Copy(into, other)
	}

	return into
}

func sameSecret(a, b *corev1.Secret) bool {
	return maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations) && maps.EqualFunc(a.Data, b.Data, bytes.Equal)
}
