package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/test/binary"
)

// patience bounds every wait.
const patience = 3 * time.Minute

// The dashboard and the alerts against a daemon and a Prometheus that are real: no query is
// an error, and all have something to show of a fleet to which everything happens.
func TestLive(t *testing.T) {
	prometheus := need(t, "prometheus")
	need(t, "git")

	if testing.Short() {
		t.Skip("it takes a minute")
	}

	f := startFleet(t)
	p := startPrometheus(t, prometheus, "http://"+f.daemon)

	f.happen(t, p)

	d := board(t)
	queries := d.queries()
	// Asked again until all have data: rates need two scrapes after the thing happened.
	var empty []string

	eventually(t, func() string {
		empty = nil

		for where, expr := range queries {
			samples, err := p.query(t, selected(expr, "30s"))
			if err != nil {
				t.Fatalf("%s: %v", where, err)
			}

			if samples == 0 {
				empty = append(empty, where)
			}
		}

		// Nothing lasts long enough here to fire.
		empty = slices.DeleteFunc(empty, func(where string) bool { return where == "Alerts" })
		slices.Sort(empty)

		return strings.Join(empty, ", ")
	})

	p.checkRules(t)
}

// liveFleet is a daemon with sources, clusters and an Omni.
type liveFleet struct {
	omni   *embedded.Server
	daemon string // address of its /metrics
	hooks  string
	dir    string
	binary string
}

// startFleet starts an Omni in this process and the real daemon.
func startFleet(t *testing.T) *liveFleet {
	t.Helper()

	f := &liveFleet{daemon: freeAddress(t), hooks: freeAddress(t), dir: t.TempDir(), binary: binary.Static(t)}

	var err error
	if f.omni, err = embedded.New(embedded.Config{HealthyMachines: true}); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- f.omni.Run(ctx) }()

	t.Cleanup(func() {
		stop()

		if err := <-done; err != nil {
			t.Error(err)
		}
	})

	f.write(t, "config.yaml", fmt.Sprintf(`
metrics: {listen: %q}
webhooks: {listen: %q}
api: {socket: sock}
stateDir: state
sources:
  - name: fleet
    git: {url: ./fleet/.git}
    interval: 1s
    webhook: {provider: generic, secretFile: secret}
  - {name: gone, git: {url: ./gone.git}, interval: 1s}
  - {name: lab, dir: {path: lab}}
`, f.daemon, f.hooks))
	f.write(t, "secret", "0123456789abcdef0123456789abcdef")

	const template = "kind: Cluster\nname: %s\nkubernetes: {version: v%s}\ntalos: {version: v1.12.0}\n---\nkind: ControlPlane\nmachines: [%s]\n"

	f.write(t, "fleet/good.yaml", fmt.Sprintf(template, "good", "1.34.3", "5f3a1c00-0000-4000-8000-000000000001"))
	f.write(t, "fleet/class.yaml", "metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: small}\nspec:\n  matchlabels: [\"size = small\"]\n")
	f.write(t, "lab/refused.yaml", fmt.Sprintf(template, "refused", "9.9.9", "5f3a1c00-0000-4000-8000-000000000002"))
	run(t, filepath.Join(f.dir, "fleet"), "git", "init", "-q")
	run(t, filepath.Join(f.dir, "fleet"), "git", "add", ".")
	run(t, filepath.Join(f.dir, "fleet"), "git", "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "Clusters")

	cmd := exec.Command(f.binary, "run", "--config", "config.yaml")
	cmd.Env = append(os.Environ(), "OMNI_ENDPOINT="+f.omni.Endpoint(), "OMNI_SERVICE_ACCOUNT_KEY="+f.omni.ServiceAccountKey(embedded.AccountOperator))
	start(t, cmd, f.dir)

	return f
}

// happen lets everything happen that a panel tells of.
func (f *liveFleet) happen(t *testing.T, p *livePrometheus) {
	t.Helper()
	p.await(t, `omni_syncd_cluster_info{cluster="good",sync="Synced"} and on () omni_syncd_waiting{cluster="refused",reason="stalled"}`)

	// Somebody changes what is in Git, and a watch breaks.
	if _, err := f.omni.State().UpdateWithConflicts(t.Context(), omnires.NewCluster("good").Metadata(), func(r resource.Resource) error {
		r.Metadata().Labels().Set("by-hand", "")

		return nil
	}); err != nil {
		t.Fatal(err)
	}

	p.await(t, `omni_syncd_drift_writes_total{source="fleet"} > 0`)
	f.omni.Faults().DropWatches(embedded.Match{})

	// Somebody asks, and somebody announces a push without the secret.
	run(t, f.dir, f.binary, "status", "--socket", "sock")

	res, err := http.Post("http://"+f.hooks+"/hooks/fleet", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}

	res.Body.Close()

	p.await(t, `sum(omni_syncd_snapshot_watch_failures_total) > 0 and on () omni_syncd_webhook_requests_total`)
}

func (f *liveFleet) write(t *testing.T, name, text string) {
	t.Helper()

	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// livePrometheus is a Prometheus of this test's own.
type livePrometheus struct{ url string }

func startPrometheus(t *testing.T, binary, scrape string) *livePrometheus {
	t.Helper()

	dir, address := t.TempDir(), freeAddress(t)

	alerts, err := filepath.Abs(alertsFile)
	if err != nil {
		t.Fatal(err)
	}

	target, err := url.Parse(scrape)
	if err != nil {
		t.Fatal(err)
	}

	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n  - job_name: omni-syncd\n    static_configs: [{targets: [%q]}]\n", alerts, target.Host)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}

	start(t, exec.Command(binary, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address="+address), dir)

	return &livePrometheus{"http://" + address}
}

// answer is what the HTTP API says.
type answer struct {
	Status, Error string
	Data          struct {
		Result []json.RawMessage
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
}

func (p *livePrometheus) ask(path string) (a answer, err error) {
	res, err := http.Get(p.url + path)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()

	return a, json.NewDecoder(res.Body).Decode(&a)
}

// query returns how many samples an expression has.
func (p *livePrometheus) query(t *testing.T, expr string) (int, error) {
	t.Helper()

	a, err := p.ask("/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return 0, err
	}

	if a.Status != "success" {
		return 0, fmt.Errorf("%s: %s", expr, a.Error)
	}

	return len(a.Data.Result), nil
}

// await waits until an expression has a sample.
func (p *livePrometheus) await(t *testing.T, expr string) {
	t.Helper()
	eventually(t, func() string {
		samples, err := p.query(t, expr)
		if err != nil {
			return err.Error()
		}

		if samples == 0 {
			return expr
		}

		return ""
	})
}

// checkRules fails the test if an alert cannot be evaluated.
func (p *livePrometheus) checkRules(t *testing.T) {
	t.Helper()

	a, err := p.ask("/api/v1/rules")
	if err != nil {
		t.Fatal(err)
	}

	evaluated := 0

	for _, group := range a.Data.Groups {
		for _, rule := range group.Rules {
			if evaluated++; rule.Health != "ok" {
				t.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
		}
	}

	if evaluated != len(rules(t)) {
		t.Errorf("%d alerts are evaluated", evaluated)
	}
}

// eventually waits until nothing is lacking any more.
func eventually(t *testing.T, lacking func() string) {
	t.Helper()

	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()

	for deadline := time.Now().Add(patience); ; <-tick.C {
		what := lacking()

		switch {
		case what == "":
			return
		case time.Now().After(deadline):
			t.Fatal("still lacking: ", what)
		}
	}
}

// start starts a program in a directory. It ends with the test; if that failed, what it said is
// shown.
func start(t *testing.T, cmd *exec.Cmd, dir string) {
	t.Helper()

	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}

	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()

		log.Close()

		if said, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s: %v\n%s", cmd.Path, err, said)
		}
	})
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir

	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// freeAddress returns an address on loopback that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	return l.Addr().String()
}
