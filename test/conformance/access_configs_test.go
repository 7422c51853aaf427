package conformance

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/pkg/client/management"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	talos "github.com/siderolabs/talos/pkg/machinery/client/config"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// all manages every cluster.
type all struct{}

func (all) Managed(source, cluster string) (sync.Key, error) {
	return sync.Key{Source: source, Target: cluster}, nil
}

var anyToken = regexp.MustCompile(`token: \S+`)

// TestIssuedConfigs: what omni-syncd hands out is what upstream's client returns for the same request, and the loaders of
// kubectl and talosctl take the files that it is merged into.
func TestIssuedConfigs(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	cluster := o.cluster("blue")
	o.make(cluster)
	await(o, omni.NewClusterUUID(cluster.Metadata().ID()), func(*omni.ClusterUUID) bool { return true })

	name := cluster.Metadata().ID()
	upstream := o.conn.Management().WithCluster(name)
	issuer := access.NewIssuer(access.IssuerConfig{
		Omni: o.conn, Clusters: all{}, ServiceAccounts: &access.ServiceAccountPolicy{MaxTTL: time.Hour, Users: []string{"robot"}, Groups: []string{"testers"}},
	})
	robot := &access.ServiceAccount{User: "robot", Groups: []string{"testers"}, TTL: time.Minute}

	for _, test := range []struct {
		request access.Request
		opts    []management.KubeconfigOption
	}{
		{access.Request{Cluster: name}, nil},
		{access.Request{Cluster: name, GrantType: "authcode-keyboard"}, []management.KubeconfigOption{management.WithGrantType("authcode-keyboard")}},
		{access.Request{Cluster: name, ServiceAccount: robot}, []management.KubeconfigOption{management.WithServiceAccount(time.Minute, "robot", "testers")}},
		{access.Request{Cluster: name, ServiceAccount: &access.ServiceAccount{User: "robot", TTL: time.Minute}}, []management.KubeconfigOption{management.WithServiceAccount(time.Minute, "robot")}},
	} {
		want, err := upstream.Kubeconfig(testContext(t), test.opts...)
		must(t, err)
		got, err := issuer.Kubeconfig(testContext(t), test.request)
		must(t, err)

		// No two tokens are equal.
		if d := cmp.Diff(anyToken.ReplaceAllString(string(want), "token"), anyToken.ReplaceAllString(string(got), "token")); d != "" {
			t.Errorf("kubeconfig for %+v:\n%s", test.request, d)
		}

		path := filepath.Join(t.TempDir(), "config")
		merged, err := access.MergeKubeconfig(testContext(t), []string{path}, got, access.MergeOptions{})
		must(t, err)

		config, err := clientcmd.LoadFromFile(path)
		must(t, err)

		if config.CurrentContext != merged.Context || !strings.Contains(merged.Context, name) {
			t.Errorf("the current context is %q", config.CurrentContext)
		}

		again, err := access.MergeKubeconfig(testContext(t), []string{path}, got, access.MergeOptions{})
		must(t, err)

		if again.Changed {
			t.Error("a second merge changes something")
		}
	}

	want, err := upstream.Talosconfig(testContext(t))
	must(t, err)
	got, err := issuer.Talosconfig(testContext(t), "", name)
	must(t, err)

	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("talosconfig:\n%s", d)
	}

	path := filepath.Join(t.TempDir(), "config")

	for _, changed := range []bool{true, false} {
		merged, err := access.MergeTalosconfig(testContext(t), path, got, access.MergeOptions{})
		must(t, err)

		if merged.Changed != changed {
			t.Errorf("changed is %v, want %v", merged.Changed, changed)
		}
	}

	config, err := talos.Open(path)
	must(t, err)

	if one := config.Contexts[config.Context]; one == nil || one.Cluster != name {
		t.Errorf("the current context is %+v", one)
	}
}
