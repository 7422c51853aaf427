package conformance

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"github.com/siderolabs/omni/client/pkg/access"
	"github.com/siderolabs/omni/client/pkg/client/management"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"gopkg.in/yaml.v3"

	client "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// kubeconfig asks for one.
func kubeconfig(conn *client.Conn, cluster string, opts ...management.KubeconfigOption) call {
	return func(ctx context.Context, _ state.State) error {
		_, err := conn.Management().WithCluster(cluster).Kubeconfig(ctx, opts...)

		return err
	}
}

// parse reads a configuration and replaces what differs from Omni to Omni: its name in front of the cluster's, and its addresses.
func parse(t *testing.T, config []byte, cluster string) (instance string, shape map[string]any) {
	t.Helper()

	var names struct {
		Kubernetes string `yaml:"current-context"`
		Talos      string `yaml:"context"`
	}

	must(t, yaml.Unmarshal(config, &names))

	instance, _, found := strings.Cut(names.Kubernetes+names.Talos, "-"+cluster)
	if !found || instance == "" {
		t.Fatalf("the context %q is not named after an instance and %q", names.Kubernetes+names.Talos, cluster)
	}

	text := strings.ReplaceAll(string(config), instance+"-"+cluster, "NAME")
	must(t, yaml.Unmarshal([]byte(text), &shape))

	return instance, shape
}

// identity of the account of OMNI_SERVICE_ACCOUNT_KEY.
func identity(t *testing.T) string {
	t.Helper()

	account, err := serviceaccount.Decode(target.key)
	must(t, err)

	return access.ParseServiceAccountFromName(account.Name).FullID()
}

type object = map[string]any

// TestKubeconfig: what a person gets holds no secret, it logs in at Omni; what a machine gets holds a token.
func TestKubeconfig(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	cluster := o.cluster("blue")
	o.make(cluster)
	await(o, omni.NewClusterUUID(cluster.Metadata().ID()), func(*omni.ClusterUUID) bool { return true })

	name := cluster.Metadata().ID()

	config, err := o.conn.Management().WithCluster(name).Kubeconfig(testContext(t))
	must(t, err)

	_, got := parse(t, config, name)
	user := "NAME-" + identity(t)

	if diff := cmp.Diff(object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "NAME",
		"clusters":        []any{object{"name": "NAME", "cluster": object{"server": address}}},
		"contexts":        []any{object{"name": "NAME", "context": object{"cluster": "NAME", "namespace": "default", "user": user}}},
		"users": []any{object{"name": user, "user": object{"exec": object{
			"apiVersion":         "client.authentication.k8s.io/v1",
			"command":            "kubectl",
			"env":                nil,
			"interactiveMode":    "IfAvailable",
			"provideClusterInfo": false,
			"args": []any{
				"oidc-login", "get-token", "--oidc-issuer-url=" + address, "--oidc-client-id=native", "--oidc-extra-scope=cluster:" + name,
			},
		}}}},
	}, got, addresses); diff != "" {
		t.Errorf("a person's kubeconfig:\n%s", diff)
	}

	config, err = o.conn.Management().WithCluster(name).Kubeconfig(testContext(t), management.WithServiceAccount(time.Hour, "robot", "system:masters"))
	must(t, err)

	_, got = parse(t, config, name)

	if diff := cmp.Diff(object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "NAME-robot",
		"clusters":        []any{object{"name": "NAME-robot", "cluster": object{"server": address}}},
		"contexts":        []any{object{"name": "NAME-robot", "context": object{"cluster": "NAME-robot", "namespace": "default", "user": "NAME-robot"}}},
		"users":           []any{object{"name": "NAME-robot", "user": object{"token": token}}},
	}, got, addresses, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == `["token"]` }, cmp.Comparer(func(a, b any) bool {
		return parts(a) == parts(b)
	}))); diff != "" {
		t.Errorf("a machine's kubeconfig:\n%s", diff)
	}

	robot := func(ttl time.Duration, user string) management.KubeconfigOption {
		return management.WithServiceAccount(ttl, user)
	}

	check(t, o.st, []row{
		{"grant type", kubeconfig(o.conn, name, management.WithGrantType("authcode-keyboard")), accepted, ""},
		{"unknown grant type", kubeconfig(o.conn, name, management.WithGrantType("x")), refused, "grant type"},
		{"of a cluster that is not there", kubeconfig(o.conn, o.id("x")), accepted, ""},
		{"token without a user", kubeconfig(o.conn, name, robot(time.Hour, "")), refused, "user"},
		{"token without a life", kubeconfig(o.conn, name, robot(0, "robot")), refused, "ttl"},
		{"token for ever", kubeconfig(o.conn, name, robot(100*365*24*time.Hour, "robot")), refused, "ttl"},
		{"token for no cluster", kubeconfig(o.conn, "", robot(time.Hour, "robot")), refused, "cluster"},
		{"upgrade checks before there was a Kubernetes", func(ctx context.Context, _ state.State) error {
			return o.conn.Management().WithCluster(name).KubernetesUpgradePreChecks(ctx, o.kubernetesUp)
		}, failed, ""},
		{"token for a cluster that is not there", kubeconfig(o.conn, o.id("x"), robot(time.Hour, "robot")), failed, ""},
	})

	reader := o.as(roleReader)

	check(t, reader.State(), []row{
		{"for a Reader", kubeconfig(reader, name), accepted, ""},
		{"token for a Reader", kubeconfig(reader, name, robot(time.Hour, "robot")), denied, ""},
	})
}

const (
	address = "https://…"
	token   = "a.b.c"
)

// addresses compares them by having one.
var addresses = cmp.FilterValues(func(a, b string) bool { return strings.Contains(a+b, address) }, cmp.Comparer(func(a, b string) bool {
	head := func(s string) string {
		head, _, _ := strings.Cut(s, "https://")
		head, _, _ = strings.Cut(head, "http://")

		return head
	}

	return strings.Contains(a, "://") && strings.Contains(b, "://") && head(a) == head(b)
}))

func parts(v any) int {
	s, _ := v.(string)

	return strings.Count(s, ".")
}

// TestTalosconfig: it holds no secret, the caller's own key signs what is asked of a machine.
func TestTalosconfig(t *testing.T) {
	t.Parallel()

	o := newTenant(t)
	name := o.id("blue")

	config, err := o.conn.Management().WithCluster(name).Talosconfig(testContext(t))
	must(t, err)

	instance, got := parse(t, config, name)

	if diff := cmp.Diff(object{
		"context": "NAME",
		"contexts": object{"NAME": object{
			"endpoints": []any{address}, "cluster": name, "auth": object{"siderov1": object{"identity": identity(t)}},
		}},
	}, got, addresses); diff != "" {
		t.Errorf("a talosconfig:\n%s", diff)
	}

	config, err = o.conn.Management().Talosconfig(testContext(t))
	must(t, err)

	got = nil
	must(t, yaml.Unmarshal(config, &got))

	if diff := cmp.Diff(object{
		"context": instance,
		"contexts": object{instance: object{
			"endpoints": []any{address}, "auth": object{"siderov1": object{"identity": identity(t)}},
		}},
	}, got, addresses); diff != "" {
		t.Errorf("a talosconfig of no cluster:\n%s", diff)
	}

	_, err = o.as(roleReader).Management().WithCluster(name).Talosconfig(testContext(t))
	expect(t, err, accepted)
	_, err = o.as(roleNone).Management().WithCluster(name).Talosconfig(testContext(t))
	expect(t, err, denied)
}
