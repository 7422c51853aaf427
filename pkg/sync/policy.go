package sync

import (
	"fmt"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// Policy says how one cluster is treated. A source sets the default, and the annotations
// of a template's Cluster change it for that cluster, so that it is reviewed and rolled
// back like everything else in Git.
type Policy struct {
	// Suspended clusters are planned and never written to.
	Suspended bool
	// Manual clusters are planned, and written to only when somebody asks for it.
	Manual bool
	// KeepParts keeps what leaves the template: nothing in the cluster is destroyed.
	KeepParts bool
	// Protected clusters are not deleted when their template leaves Git.
	Protected bool
}

// Annotations with which a template changes the policy of its cluster.
const (
	AnnotationSuspend  = "omni-syncd/suspend"  // "true" or "false"
	AnnotationSync     = "omni-syncd/sync"     // "manual" or "auto"
	AnnotationPrune    = "omni-syncd/prune"    // "disabled" or "enabled"
	AnnotationDeletion = "omni-syncd/deletion" // "protected" or "allowed"
)

// policyOf returns the policy of a cluster: the default of its source, changed by the
// annotations of its Cluster, desired or, after that left Git, live. A value that means
// nothing is an error: a typo must not switch a protection off.
func policyOf(policy Policy, cluster resource.Resource) (Policy, error) {
	for _, a := range []struct {
		annotation, on, off string
		field               *bool
	}{
		{AnnotationSuspend, "true", "false", &policy.Suspended},
		{AnnotationSync, "manual", "auto", &policy.Manual},
		{AnnotationPrune, "disabled", "enabled", &policy.KeepParts},
		{AnnotationDeletion, "protected", "allowed", &policy.Protected},
	} {
		value, ok := cluster.Metadata().Annotations().Get(a.annotation)

		switch {
		case !ok:
		case value == a.on:
			*a.field = true
		case value == a.off:
			*a.field = false
		default:
			return policy, fmt.Errorf("the annotation %s: %q means nothing; use %q or %q", a.annotation, value, a.on, a.off)
		}
	}

	return policy, nil
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

	policy, err := policyOf(fallback, cluster)
	if err != nil { // somebody broke it in Omni, where there is no position to show
		policy.Protected = true
	}

	return policy, nil
}
