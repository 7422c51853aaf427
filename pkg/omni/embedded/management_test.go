package embedded_test

import (
	"strings"
	"testing"
	"time"

	"github.com/siderolabs/omni/client/pkg/client/management"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"
	"gopkg.in/yaml.v3"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

func TestKubeconfig(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	must(t, s.State().Create(testContext(t), newCluster("blue")))

	reader := dial(t, s, embedded.AccountReader).Management().WithCluster("blue")
	oper := dial(t, s, embedded.AccountOperator).Management()

	data, err := reader.Kubeconfig(testContext(t))
	must(t, err)

	var config struct {
		Kind    string
		Current string `yaml:"current-context"`
		Users   []struct {
			User struct {
				Token string
				Exec  struct {
					Command string
					Args    []string
				}
			}
		}
	}

	must(t, yaml.Unmarshal(data, &config))

	if config.Kind != "Config" || config.Current == "" || len(config.Users) != 1 {
		t.Fatalf("not a kubeconfig:\n%s", data)
	}

	user := config.Users[0].User
	if user.Token != "" || user.Exec.Command != "kubectl" || !strings.Contains(strings.Join(user.Exec.Args, " "), "cluster:blue") {
		t.Errorf("a user's kubeconfig logs in by OIDC and holds no secret:\n%s", data)
	}

	_, err = reader.Kubeconfig(testContext(t), management.WithServiceAccount(time.Hour, "robot", "system:masters"))
	wantCode(t, err, codes.PermissionDenied)

	data, err = oper.WithCluster("blue").Kubeconfig(testContext(t), management.WithServiceAccount(time.Hour, "robot", "system:masters"))
	must(t, err)
	must(t, yaml.Unmarshal(data, &config))

	if strings.Count(config.Users[0].User.Token, ".") != 2 {
		t.Errorf("a service account's kubeconfig holds a token:\n%s", data)
	}

	for name, opts := range map[string]management.KubeconfigOption{
		"no ttl":      management.WithServiceAccount(0, "robot"),
		"long ttl":    management.WithServiceAccount(11*365*24*time.Hour, "robot"),
		"no user":     management.WithServiceAccount(time.Hour, ""),
		"grant type?": management.WithGrantType("nope"),
	} {
		if _, err = oper.WithCluster("blue").Kubeconfig(testContext(t), opts); code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}

	_, err = oper.WithCluster("nowhere").Kubeconfig(testContext(t), management.WithServiceAccount(time.Hour, "robot"))
	wantCode(t, err, codes.Unknown) // as from Omni

	_, err = dial(t, s, embedded.AccountAdmin).Management().WithCluster("blue").Kubeconfig(testContext(t), management.WithBreakGlassKubeconfig(true))
	wantCode(t, err, codes.PermissionDenied)
}

func TestTalosconfig(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	m := dial(t, s, embedded.AccountReader).Management()

	data, err := m.WithCluster("blue").Talosconfig(testContext(t))
	must(t, err)

	if text := string(data); !strings.Contains(text, "cluster: blue") || !strings.Contains(text, "identity: reader@serviceaccount.omni.sidero.dev") {
		t.Errorf("not a talosconfig of the cluster and the caller:\n%s", text)
	}

	_, err = m.Talosconfig(testContext(t), management.WithBreakGlassTalosconfig(true))
	wantCode(t, err, codes.PermissionDenied)

	_, err = m.Talosconfig(testContext(t))
	must(t, err)
}

func TestOtherManagementCalls(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	must(t, s.State().Create(testContext(t), newCluster("blue")))

	m := dial(t, s, embedded.AccountOperator).Management()
	cluster := m.WithCluster("blue")

	wantCode(t, cluster.KubernetesUpgradePreChecks(testContext(t), "1.35.0"), codes.Unknown)

	status := omni.NewKubernetesUpgradeStatus("blue")
	must(t, s.State().Create(testContext(t), status))
	wantCode(t, cluster.KubernetesUpgradePreChecks(testContext(t), "1.35.0"), codes.FailedPrecondition)

	must(t, update(testContext(t), s.State(), status, func(r *omni.KubernetesUpgradeStatus) {
		r.TypedSpec().Value.LastUpgradeVersion = "1.34.0"
	}))
	must(t, cluster.KubernetesUpgradePreChecks(testContext(t), "1.35.0"))
	wantCode(t, cluster.KubernetesUpgradePreChecks(testContext(t), "1.36.0"), codes.InvalidArgument)
	wantCode(t, m.WithCluster("nowhere").KubernetesUpgradePreChecks(testContext(t), "1.35.0"), codes.Unknown)

	_, err := m.ListServiceAccounts(testContext(t))
	wantCode(t, err, codes.Unimplemented)
}
