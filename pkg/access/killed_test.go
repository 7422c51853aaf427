package access_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/test/kube"
)

const envVictim = "ACCESS_TEST_VICTIM"

// TestMain is also the process that is killed: it writes without end.
func TestMain(m *testing.M) {
	dir := os.Getenv(envVictim)
	if dir == "" {
		os.Exit(kube.Wrap(m).Run())
	}

	directory, err := access.OpenDirectory(filepath.Join(dir, "kept"))

	for i := 0; err == nil; i++ {
		text := strings.Repeat(fmt.Sprint(i), 20_000)
		_, err = access.MergeKubeconfig(context.Background(), []string{filepath.Join(dir, "config")}, withToken(here, "prod", "t"+text), access.MergeOptions{})
		err = errors.Join(err, directory.Put(context.Background(), "prod", access.Configs{Kubeconfig: []byte(text + "end")}))
	}

	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Killed at any instant, no file is torn, and the next process goes on.
func TestKilled(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	config, kept := filepath.Join(dir, "config"), filepath.Join(dir, "kept")

	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 80*time.Millisecond+time.Duration(i)*7*time.Millisecond)
		victim := exec.CommandContext(ctx, os.Args[0])
		victim.Env = append(os.Environ(), envVictim+"="+dir)

		out, err := victim.CombinedOutput()
		cancel()

		if err == nil || len(out) > 0 {
			t.Fatalf("%v: %s", err, out)
		}

		if loaded, err := clientcmd.LoadFromFile(config); err == nil {
			if _, ok := loaded.Contexts["lab-prod-ci"]; !ok {
				t.Error("the kubeconfig is torn")
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Error("the kubeconfig is torn")
		}

		if data, err := os.ReadFile(filepath.Join(kept, "prod.kubeconfig")); err == nil && !strings.HasSuffix(string(data), "end") {
			t.Error("a kept file is torn")
		}

		// kubectl's kind of lock stays behind: a person removes it, as the error says.
		must(t, ignoring(os.Remove(config+".lock")))
	}

	directory := openDirectory(t, kept)
	must(t, directory.Put(t.Context(), "prod", configs("1")))
	must(t, directory.Remove(t.Context(), "prod"))
	same(t, "files", map[string]string{}, files(t, kept))
}

func ignoring(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	return err
}
