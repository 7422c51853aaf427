package gitea

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/test/binary"
)

const template = `{kind: Cluster, name: gitea, kubernetes: {version: %s}, talos: {version: v1.12.0}}
---
kind: ControlPlane
machines: [00000001-0000-4000-8000-000000000001]
`

// The whole way, with the real binary: from a push to Gitea, by its webhook, to Omni.
func testDaemon(t *testing.T, s *server) {
	r := s.newRepo(t, "fleet")
	r.commit(t, "clusters/gitea.yaml", fmt.Sprintf(template, "v1.34.3"))
	r.push(t, "main")

	server, err := embedded.New(embedded.Config{HealthyMachines: true, Step: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}

	served := make(chan error, 1)

	go func() { served <- server.Run(t.Context()) }()

	t.Cleanup(func() {
		if err := <-served; err != nil {
			t.Error(err)
		}
	})

	token := s.newToken(t, "daemon", "read:repository")
	program := binary.Static(t)

	validate := exec.CommandContext(t.Context(), program, "validate", r.ssh(), "--path", "clusters",
		"--ssh-key-file", r.deployKey(t), "--ssh-known-hosts", knownHosts(t, s.ssh, s.hostKey(t)))
	if out, err := validate.CombinedOutput(); err != nil {
		t.Errorf("validate: %v: %s", err, out)
	}

	config := file(t, fmt.Sprintf(`
webhooks: {listen: "127.0.0.1:0"}
sources:
  - name: fleet
    git: {url: %q, branch: main, tokenFile: %q, tls: {caFile: %q}}
    path: clusters
    interval: 1h
    webhook: {provider: gitea, secretFile: %q}
`, r.url(), file(t, token), s.caFile, file(t, secret)))

	address := run(t, program, config, server, token, secret)
	r.newHook(t, "gitea", "json", "http://"+address+"/hooks/fleet", secret)

	waitForKubernetes(t, server.State(), "1.34.3")

	r.commit(t, "clusters/gitea.yaml", fmt.Sprintf(template, "v1.35.0"))
	r.push(t, "main")

	pushed := time.Now()

	waitForKubernetes(t, server.State(), "1.35.0")
	t.Logf("in Omni %s after the push", time.Since(pushed).Round(time.Millisecond))
}

// run runs the daemon until the test ends, and returns where it listens for webhooks.
func run(t *testing.T, binary, config string, server *embedded.Server, secrets ...string) string {
	t.Helper()

	read, write := io.Pipe()
	cmd := exec.CommandContext(t.Context(), binary, "run", "--config", config, "--log-format", "json")
	cmd.Env = append(os.Environ(), "OMNI_ENDPOINT="+server.Endpoint(), "OMNI_SERVICE_ACCOUNT_KEY="+server.ServiceAccountKey(embedded.AccountOperator))
	cmd.Stderr = write
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = stopTime

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	var log bytes.Buffer

	listening, logged := make(chan string, 1), make(chan struct{})

	go func() {
		defer close(logged)

		for lines := bufio.NewScanner(read); lines.Scan(); {
			log.Write(append(lines.Bytes(), '\n'))

			var line struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening for webhooks" {
				listening <- line.Address
			}
		}
	}()

	t.Cleanup(func() {
		cmd.Wait()    //nolint:errcheck // we stopped it
		write.Close() //nolint:errcheck // it cannot fail
		<-logged

		if t.Failed() {
			t.Logf("omni-syncd's log:\n%s", log.Bytes())
		}

		for _, secret := range secrets {
			if strings.Contains(log.String(), secret) {
				t.Error("a secret is in the log")
			}
		}
	})

	select {
	case address := <-listening:
		return address
	case <-logged:
	case <-time.After(deadline):
	}

	t.Fatal("omni-syncd does not listen")

	return ""
}

// waitForKubernetes waits until the cluster has a version of Kubernetes in Omni.
func waitForKubernetes(t *testing.T, st state.State, version string) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()

	_, err := st.WatchFor(ctx, resource.NewMetadata(resources.DefaultNamespace, omni.ClusterType, "gitea", resource.VersionUndefined),
		state.WithCondition(func(r resource.Resource) (bool, error) {
			cluster, ok := r.(*omni.Cluster)

			return ok && cluster.TypedSpec().Value.GetKubernetesVersion() == version, nil
		}))
	if err != nil {
		t.Fatalf("the cluster does not get Kubernetes %s: %v", version, err)
	}
}
