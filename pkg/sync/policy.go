package sync

import (
	"fmt"
	"path"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// Policy says how one cluster is treated. The operator sets what holds for all clusters of a source, and the annotations
// of a template's Cluster tighten it for that cluster (G13): they are reviewed and rolled back like everything else in
// Git, and cannot switch off what the operator said.
type Policy struct {
	// Suspended clusters are planned and never written to.
	Suspended bool
	// Manual clusters are planned, and written to only when somebody asks for it.
	Manual bool
	// KeepParts keeps what leaves the template: nothing in the cluster is destroyed.
	KeepParts bool
	// Protected clusters are not deleted when their template leaves Git.
	Protected bool
	// Orphan clusters lose our marks when their template leaves Git, and stay in Omni.
	Orphan bool
}

// Annotations with which a template tightens the policy of its cluster. The second value of each is the default; it
// changes nothing.
const (
	AnnotationSuspend  = "omni-syncd/suspend"  // "true" or "false"
	AnnotationSync     = "omni-syncd/sync"     // "manual" or "auto"
	AnnotationPrune    = "omni-syncd/prune"    // "disabled" or "enabled"
	AnnotationDeletion = "omni-syncd/deletion" // "protected", "orphan" or "allowed"
)

// policyOf returns the policy of a cluster or fleet resource: that of its source, tightened by the annotations of the
// resource, desired or, after that left Git, live. A value that means nothing is an error: a typo must not switch a
// protection off.
func policyOf(policy Policy, r resource.Resource) (Policy, error) {
	for _, a := range []struct {
		annotation, fallback string
		fields               map[string]*bool
	}{
		{AnnotationSuspend, "false", map[string]*bool{"true": &policy.Suspended}},
		{AnnotationSync, "auto", map[string]*bool{"manual": &policy.Manual}},
		{AnnotationPrune, "enabled", map[string]*bool{"disabled": &policy.KeepParts}},
		{AnnotationDeletion, "allowed", map[string]*bool{"protected": &policy.Protected, "orphan": &policy.Orphan}},
	} {
		value, ok := r.Metadata().Annotations().Get(a.annotation)

		switch field := a.fields[value]; {
		case !ok || value == a.fallback:
		case field != nil:
			*field = true
		default:
			return policy, fmt.Errorf("the annotation %s: %q is unknown; use %s", a.annotation, value, policyValues(a.annotation))
		}
	}

	return policy, nil
}

func policyValues(annotation string) string {
	return map[string]string{
		AnnotationSuspend: `"true" or "false"`, AnnotationSync: `"manual" or "auto"`,
		AnnotationPrune: `"disabled" or "enabled"`, AnnotationDeletion: `"protected", "orphan" or "allowed"`,
	}[annotation]
}

// policy returns the policy of a target. What left Git is judged by what it says in Omni,
// where the annotations of its template still are.
func (e *Engine) policy(t *target) (Policy, error) {
	fallback := t.src.Policy

	if t.desired != nil {
		for _, r := range t.desired.Resources {
			if r.Metadata().Type() == omni.ClusterType {
				policy, err := policyOf(fallback, r)
				if err != nil {
					return policy, &StalledError{fmt.Errorf("%s: %w", t.desired.Position(r.Metadata()), err)}
				}

				return policy, nil
			}
		}

		return fallback, nil
	}

	cluster, ok := e.Snapshot.Get(omni.ClusterType, t.Target)
	if !ok {
		return fallback, nil
	}

	return livePolicy(fallback, cluster), nil
}

// livePolicy returns the policy of what left Git. What somebody broke in Omni, where there is no position to show, is
// protected.
func livePolicy(fallback Policy, live resource.Resource) Policy {
	policy, err := policyOf(fallback, live)
	if err != nil {
		policy.Protected = true
	}

	return policy
}

// Allow is what the operator allows a source to do. The zero value allows everything but taking over.
type Allow struct {
	// Clusters are globs of names; empty: every cluster.
	Clusters []string
	// Kinds are the kinds of resources that may stand in manifests, and Cluster for templates; empty: every kind.
	Kinds []string
	// TakeFrom names the sources whose clusters and fleet resources this one may take over once they left Git there.
	TakeFrom []string
}

// Cluster reports whether a source may have a cluster of that name.
func (a *Allow) Cluster(name string) bool {
	return a.Kind("Cluster") && a.clusterName(name)
}

func (a *Allow) clusterName(name string) bool {
	return anyOf(a.Clusters, func(glob string) bool {
		ok, err := path.Match(glob, name)

		return ok && err == nil
	})
}

// Kind reports whether a source may write resources of a kind.
func (a *Allow) Kind(kind string) bool {
	return anyOf(a.Kinds, func(allowed string) bool { return allowed == kind })
}

// anyOf reports whether one of a list fits, or the list is empty.
func anyOf(list []string, fits func(string) bool) bool {
	for _, each := range list {
		if fits(each) {
			return true
		}
	}

	return len(list) == 0
}

// reserved says which annotation or label of a target is under our prefix and means nothing; "" if there is none. Our own
// marks are left out of what is written anyway.
func (t *target) reserved() string {
	if t.desired == nil {
		return ""
	}

	for _, r := range t.desired.Resources {
		for _, keys := range []map[string]string{r.Metadata().Annotations().Raw(), r.Metadata().Labels().Raw()} {
			for key := range keys {
				if strings.HasPrefix(key, markPrefix) && !diff.IsMark(key) && policyValues(key) == "" && key != diff.AnnotationHandover {
					return fmt.Sprintf("%s: unknown annotation or label %s: names under %s are omni-syncd's own", t.desired.Position(r.Metadata()), key, markPrefix)
				}
			}
		}
	}

	return ""
}

// forbidden says what a target wants that the operator does not allow its source; "" if nothing.
func (e *Engine) forbidden(t *target) string {
	allow := &t.src.Allow

	if why := t.reserved(); why != "" {
		return why
	}

	if t.Target != "" {
		if allow.Cluster(t.Target) {
			return ""
		}

		return fmt.Sprintf("the source %s may not have a cluster %q: `allow` of the source names neither it nor a glob that matches", t.Source, t.Target)
	}

	if t.desired != nil {
		for _, r := range t.desired.Resources {
			if kind := diff.Kind(r.Metadata().Type()); !allow.Kind(kind) {
				return fmt.Sprintf("%s: the source %s may not write a %s: `allow.kinds` of the source does not name it", t.desired.Position(r.Metadata()), t.Source, kind)
			}

			// What carries a cluster's label is part of that cluster.
			if cluster := clusterLabel(r); cluster != "" && !allow.clusterName(cluster) {
				return fmt.Sprintf("%s: the source %s may not write to the cluster %q: `allow.clusters` of the source does not name it", t.desired.Position(r.Metadata()), t.Source, cluster)
			}
		}
	}

	return ""
}
