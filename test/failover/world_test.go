package failover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/api/omnisyncd/v1/omnisyncdv1connect"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/test/kube"
)

// world is some replicas, what they follow and what they write to.
type world struct {
	t        *testing.T
	omni     *embedded.Server
	leases   coordination.LeaseInterface
	repo     string
	judge    *judge
	replicas map[string]*replica
	clusters int
	commits  int
}

const leaseName = "omni-syncd"

func newWorld(t *testing.T, n int) *world {
	cluster := kube.Shared(t)
	namespace := cluster.Namespace(t)

	admin := cluster.Config()
	admin.QPS = -1

	client, err := coordination.NewForConfig(admin)
	if err != nil {
		t.Fatal(err)
	}

	w := &world{t: t, leases: client.Leases(namespace), repo: t.TempDir(), replicas: map[string]*replica{}, clusters: 3}
	w.judge = &judge{t: t, leases: w.leases, described: map[string]bool{}}

	var accounts []embedded.Account
	for i := range n {
		accounts = append(accounts, embedded.Account{Name: string(rune('a' + i)), Role: embedded.RoleOperator})
	}

	// With TLS in one of them: the fence is below it.
	w.omni, err = embedded.New(embedded.Config{Accounts: accounts, HealthyMachines: true, OnWrite: w.judge.wrote, TLS: n > 2})
	if err != nil {
		t.Fatal(err)
	}

	w.serve()
	w.git("init", "-q", "-b", "main")
	w.commit()

	for _, account := range accounts {
		w.replicas[account.Name] = newReplica(w, cluster, namespace, account.Name)
		w.replicas[account.Name].start()
	}

	t.Cleanup(w.end)

	return w
}

func (w *world) serve() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- w.omni.Run(ctx) }()

	w.t.Cleanup(func() {
		stop()

		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// end stops all replicas, which has to give the lease back.
func (w *world) end() {
	for _, r := range w.replicas {
		r.network.Restore()
		r.wake()
		r.stop()
	}

	if w.t.Failed() {
		for name, r := range w.replicas {
			w.t.Logf("--- replica %s\n%s", name, r.log.tail())
		}
	}
}

func (w *world) git(args ...string) {
	w.t.Helper()

	cmd := exec.Command("git", append([]string{"-C", w.repo, "-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func (w *world) clusterName(i int) string { return fmt.Sprintf("c%02d", i) }

// commit changes all templates.
func (w *world) commit() {
	w.t.Helper()
	w.commits++

	for i := range w.clusters {
		name := w.clusterName(i)
		w.judge.describe(name)

		var patches strings.Builder
		for p := range 5 {
			fmt.Fprintf(&patches, "  - name: note-%d\n    inline: {machine: {nodeLabels: {commit: \"%d\"}}}\n", p, w.commits)
		}

		text := fmt.Sprintf("kind: Cluster\nname: %s\nlabels: {commit: \"%d\"}\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.12.0}\npatches:\n%s---\nkind: ControlPlane\nmachines: [00000000-0000-4000-8000-%012d]\n---\nkind: Workers\nmachines: []\n",
			name, w.commits, patches.String(), i)

		if err := os.WriteFile(filepath.Join(w.repo, name+".yaml"), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}

	w.git("add", "-A")
	w.git("commit", "-q", "-m", fmt.Sprint("commit ", w.commits))
}

// addCluster commits one more template.
func (w *world) addCluster() {
	w.t.Helper()
	w.clusters++
	w.commit()
}

// holder is who holds the lease according to Kubernetes; "" if nobody does.
func (w *world) holder() string {
	lease, err := w.leases.Get(w.t.Context(), leaseName, metav1.GetOptions{})
	if err != nil {
		return ""
	}

	return holderOf(lease)
}

func holderOf(lease *coordinationv1.Lease) string {
	if lease.Spec.HolderIdentity == nil {
		return ""
	}

	name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")

	return name
}

func (w *world) leader(limit time.Duration) string { return w.leaderOtherThan("", limit) }

// leaderOtherThan waits until somebody else leads.
func (w *world) leaderOtherThan(old string, limit time.Duration) (leader string) {
	w.t.Helper()
	w.until(limit, fmt.Sprintf("somebody else than %q leads", old), func() string {
		if leader = w.holder(); leader != "" && leader != old {
			return ""
		}

		return fmt.Sprintf("%q leads", leader)
	})

	return leader
}

// converged waits until Omni is what Git says.
func (w *world) converged(leader, when string) {
	w.t.Helper()
	w.until(convergeLimit, when+": Omni is what Git says", w.differs)
}

// differs says what is not in Omni as it is in Git; "" if nothing is.
func (w *world) differs() string {
	want := fmt.Sprint(w.commits)

	for i := range w.clusters {
		cluster, err := safe.StateGetByID[*omni.Cluster](w.t.Context(), w.omni.State(), w.clusterName(i))
		if err != nil {
			return err.Error()
		}

		if got, _ := cluster.Metadata().Labels().Get("commit"); got != want {
			return fmt.Sprintf("%s has the commit %s, not %s", w.clusterName(i), got, want)
		}

		patches, err := safe.StateListAll[*omni.ConfigPatch](w.t.Context(), w.omni.State(), state.WithLabelQuery(labelEquals(omni.LabelCluster, w.clusterName(i))))
		if err != nil {
			return err.Error()
		}

		notes := 0

		for patch := range patches.All() {
			data, err := patch.TypedSpec().Value.GetUncompressedData()
			if err != nil {
				return err.Error()
			}

			if bytes.Contains(data.Data(), []byte(`commit: "`+want+`"`)) {
				notes++
			}

			data.Free()
		}

		if notes != 5 {
			return fmt.Sprintf("%d of 5 patches of %s have the commit %s", notes, w.clusterName(i), want)
		}
	}

	return ""
}

// healthy waits until a replica that was broken follows again, as one that stands by or
// leads.
func (w *world) healthy(name string) {
	w.t.Helper()
	w.until(convergeLimit, name+" is well again", func() string {
		if _, err := w.replicas[name].status(w.t.Context()); err != nil {
			return err.Error()
		}

		return ""
	})
}

// reconcile has a replica look at Git now. The others are not told: they find out late.
func (w *world) reconcile(name string) {
	w.t.Helper()
	w.until(convergeLimit, name+" looks at Git", func() string {
		if w.holder() != name {
			return "" // it leads no more, and need not
		}

		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		defer cancel()

		_, err := w.replicas[name].operator().Reconcile(ctx, connect.NewRequest(&v1.ReconcileRequest{Source: "fleet"}))
		if err != nil {
			return err.Error()
		}

		return ""
	})
}

// until waits until condition says "", and fails the test with what it says otherwise.
func (w *world) until(limit time.Duration, what string, condition func() string) {
	w.t.Helper()

	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()

	for {
		said := condition()
		if said == "" {
			return
		}

		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("%s: not after %s: %s", what, limit, said)
		}
	}
}

// replica is one daemon, which somebody starts and breaks.
type replica struct {
	w       *world
	name    string
	network *kube.Proxy // to the apiserver
	toOmni  *kube.Proxy
	config  string
	socket  string
	log     logTail
	cmd     *exec.Cmd
	done    chan struct{}
}

// rights are what a replica needs in Kubernetes, and no more.
func rights() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "list", "create", "update"}},
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "list", "watch", "create", "update"}},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"create", "patch"}},
	}
}

func newReplica(w *world, cluster *kube.Cluster, namespace, name string) *replica {
	w.t.Helper()

	r := &replica{w: w, name: name, network: cluster.Proxy(w.t), toOmni: kube.NewProxy(w.t, w.omni.Endpoint())}

	dir, err := os.MkdirTemp("", "r") // a socket's path is short
	if err != nil {
		w.t.Fatal(err)
	}

	w.t.Cleanup(func() { _ = os.RemoveAll(dir) })

	account := cluster.Account(w.t, namespace, name, rights()...)
	r.config, r.socket = filepath.Join(dir, "config.yaml"), filepath.Join(dir, "s")

	authority := ""

	if ca := w.omni.CA(); ca != nil {
		authority = filepath.Join(dir, "ca.crt")
		if err := os.WriteFile(authority, ca, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}

	// Git is looked at when somebody asks for it: who stands by is always behind.
	text := fmt.Sprintf(`omni: {endpoint: %q, caFile: %q}
api: {socket: %s}
kubernetes:
  kubeconfigFile: %s
  suspensions: omni-syncd-suspensions
  leaderEndpoints: omni-syncd
  leaderElection: {lease: %s, leaseDuration: %s, renewDeadline: %s, retryPeriod: %s}
sources:
  - {name: fleet, git: {url: %s}, interval: 1h, prune: true, maxDelete: 100}
`, r.toOmni.URL, authority, r.socket, r.network.Kubeconfig(w.t, account.Kubeconfig(w.t)), leaseName, leaseDuration, renewDeadline, retryPeriod, w.repo)

	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}

	return r
}

func (r *replica) start() {
	r.w.t.Helper()

	_ = os.Remove(r.socket) // of one that was killed

	r.cmd = exec.Command(binary, "run", "--config", r.config, "--log-level", "debug")
	r.cmd.Env = append(os.Environ(), "POD_NAME="+r.name, "POD_IP=192.0.2.1", "OMNI_SERVICE_ACCOUNT_KEY="+r.w.omni.ServiceAccountKey(r.name), "GORACE=halt_on_error=1")
	r.cmd.Stdout, r.cmd.Stderr = &r.log, &r.log

	if err := r.cmd.Start(); err != nil {
		r.w.t.Fatal(err)
	}

	cmd, done := r.cmd, make(chan struct{})
	r.done = done

	go func() {
		defer close(done)

		if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() >= 0 { // no signal ended it
			r.w.t.Errorf("replica %s ended: %v", r.name, err)
		}
	}()
}

func (r *replica) signal(s syscall.Signal) { _ = r.cmd.Process.Signal(s) } // it may have ended

func (r *replica) pause() { r.signal(syscall.SIGSTOP) }
func (r *replica) wake()  { r.signal(syscall.SIGCONT) }

func (r *replica) kill() {
	r.signal(syscall.SIGKILL)
	<-r.done
}

// stop ends it in order.
func (r *replica) stop() {
	r.signal(syscall.SIGTERM)

	select {
	case <-r.done:
	case <-time.After(30 * time.Second):
		r.w.t.Errorf("replica %s does not end", r.name)
		r.kill()
	}
}

func (r *replica) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.socket)
	}}}
}

func (r *replica) operator() omnisyncdv1connect.OperatorServiceClient {
	return omnisyncdv1connect.NewOperatorServiceClient(r.client(), "http://daemon")
}

// status asks how it is; it has to have read Omni.
func (r *replica) status(ctx context.Context) (*v1.ListClustersResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	res, err := omnisyncdv1connect.NewStatusServiceClient(r.client(), "http://daemon").ListClusters(ctx, connect.NewRequest(&v1.ListClustersRequest{}))

	switch {
	case err != nil:
		return nil, err
	case !res.Msg.GetReady():
		return nil, errors.New("it has not read Omni")
	default:
		return res.Msg, nil
	}
}
