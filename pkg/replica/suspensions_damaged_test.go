package replica_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/omni-syncd/omni-syncd/pkg/replica"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// everything reports whether a list suspends everything and says why.
func everything(all []sync.Suspension) bool {
	return len(all) == 1 && all[0].Source == sync.EverySource && strings.Contains(all[0].Reason, "everything stays suspended")
}

// `null` and `{}` in the ConfigMap resumed everything, and so did what kubectl puts into
// binaryData because it is no text. What else could not be read kept every replica from
// starting.
func TestSuspensions_Damaged(t *testing.T) {
	for name, damaged := range map[string]*corev1.ConfigMap{
		"empty":  {Data: map[string]string{"suspended.json": ""}},
		"null":   {Data: map[string]string{"suspended.json": "null"}},
		"object": {Data: map[string]string{"suspended.json": "{}"}},
		"cut":    {Data: map[string]string{"suspended.json": `{"suspended": [`}},
		"binary": {BinaryData: map[string][]byte{"suspended.json": []byte("\x00\xff")}},
		"large":  {Data: map[string]string{"suspended.json": strings.Repeat("é", 1<<19-9000)}},
	} {
		t.Run(name, func(t *testing.T) {
			damaged.ObjectMeta = metav1.ObjectMeta{Namespace: "x", Name: "suspensions", ResourceVersion: "1"}
			client := fake.NewClientset(damaged)
			cfg := replica.SuspensionsConfig{Client: client, Namespace: "x", Name: "suspensions"}

			var s *replica.Suspensions

			for range 2 { // a restart changes nothing
				s = replica.NewSuspensions(cfg)

				if all, err := s.Load(t.Context()); err != nil || !everything(all) {
					t.Errorf("%v, %v", all, err)
				}
			}

			// Somebody resumes what they want. What was written stays, as much as there is room for.
			if err := s.Keep(suspended("one")); err != nil {
				t.Fatal(err)
			}

			kept, err := client.CoreV1().ConfigMaps("x").Get(t.Context(), "suspensions", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}

			if n := len(kept.Data["suspended.json"]) + len(kept.Data["suspended.json.damaged"]); n > 1<<20-16<<10 || len(kept.BinaryData) != 0 {
				t.Errorf("%d bytes, and %v", n, kept.BinaryData)
			}

			if before := damaged.Data["suspended.json"]; !strings.HasPrefix(before, kept.Data["suspended.json.damaged"]) && name != "binary" {
				t.Error("the damaged list is gone")
			}

			all, err := replica.NewSuspensions(cfg).Load(t.Context())
			if d := cmp.Diff(suspended("one"), all); err != nil || d != "" {
				t.Error(err, d)
			}
		})
	}
}

// G11: what was deleted lately is in the same ConfigMap, and neither list disturbs the other one. Several shards write there.
func TestSuspensions_Ledger(t *testing.T) {
	client := fake.NewClientset()
	cfg := replica.SuspensionsConfig{Client: client, Namespace: "x", Name: "suspensions"}
	s, other := replica.NewSuspensions(cfg), replica.NewSuspensions(cfg)

	begun := func(id string) func(sync.Ledger) sync.Ledger {
		return func(kept sync.Ledger) sync.Ledger {
			kept.Begun = append(kept.Begun, sync.BegunDeletion{Source: "s", Type: "Clusters", ID: id, Mark: "1"})

			return kept
		}
	}

	for _, step := range []func() error{
		func() error { return s.KeepLedger(begun("a")) },
		func() error { return other.Keep(suspended("one")) },
		func() error { return other.KeepLedger(begun("b")) },
		func() error { return other.Keep(suspended("two")) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}

	ledger, err := s.LoadLedger(t.Context())
	if err != nil || len(ledger.Begun) != 2 || ledger.Begun[0].ID != "a" || ledger.Begun[1].ID != "b" || !ledger.Lost.IsZero() {
		t.Errorf("%+v, %v", ledger, err)
	}

	if all, err := s.Load(t.Context()); err != nil || cmp.Diff(suspended("two"), all) != "" {
		t.Error(all, err)
	}

	kept, err := client.CoreV1().ConfigMaps("x").Get(t.Context(), "suspensions", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}

	kept.Data["deletions.json"] = "{}"
	if _, err := client.CoreV1().ConfigMaps("x").Update(t.Context(), kept, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}

	if ledger, err := s.LoadLedger(t.Context()); err != nil || ledger.Lost.IsZero() {
		t.Errorf("damaged: %+v, %v", ledger, err)
	}
}
