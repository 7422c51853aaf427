// Package systemd holds the unit of the service, and the test of it.
package systemd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/config"
)

const unit = "omni-syncd.service"

// maxExposure is ten times what `systemd-analyze security` may say at most; the docs tell
// what it does say. A network daemon cannot get below 1: it is on the network.
const maxExposure = "11"

// lacking skips a test that cannot be done, or fails it where everything has to be there.
func lacking(t *testing.T, why ...any) {
	t.Helper()

	if os.Getenv("OMNI_SYNCD_TEST_TOOLS") == "required" {
		t.Fatal(why...)
	}

	t.Skip(why...)
}

// analyze runs systemd-analyze on the unit, which needs no systemd to run, with this test
// in the place of the daemon, which need not be installed.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()

	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		lacking(t, err)
	}

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	copied := filepath.Join(t.TempDir(), unit)
	text := strings.Replace(readFile(t, unit), "/usr/bin/omni-syncd", self, 1)

	if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	out, err := exec.CommandContext(t.Context(), "systemd-analyze", append(args, copied)...).CombinedOutput()

	return string(out), err
}

// tooNew is what a systemd before 253 or 254 says of what it does not know; it goes on without.
var tooNew = regexp.MustCompile(`(?m)^.*omni-syncd\.service:\d+: (Failed to parse service type, ignoring: notify-reload|Unknown key.* 'Restart(Steps|MaxDelaySec)' in section \[Service\], ignoring\.?)\n`)

func TestVerify(t *testing.T) {
	out, err := analyze(t, "verify", "--man=no")

	if complaints := tooNew.ReplaceAllString(out, ""); complaints != "" {
		t.Error(complaints)
	}

	var exit *exec.ExitError
	if err != nil && (out == "" || !errors.As(err, &exit)) {
		t.Error(err)
	}
}

func TestSecurity(t *testing.T) {
	out, err := analyze(t, "security", "--offline=yes", "--no-pager", "--threshold="+maxExposure)
	if err != nil {
		t.Errorf("more exposed than %s tenths: %v\n%s", maxExposure, err, out)
	}

	t.Log(regexp.MustCompile(`Overall.*`).FindString(out))
}

// What the daemon does is not what the filter forbids: a database that is written through,
// threads, files that are mapped, the network.
func TestSyscalls(t *testing.T) {
	groups := regexp.MustCompile(`(?m)^SystemCallFilter=~(.*)$`).FindStringSubmatch(readFile(t, unit))
	if groups == nil {
		t.Fatal("nothing is taken out of @system-service")
	}

	expand := func(name string) map[string]bool {
		all := map[string]bool{}

		for pending := []string{name}; len(pending) > 0; pending = pending[1:] {
			out, err := exec.CommandContext(t.Context(), "systemd-analyze", "--no-pager", "syscall-filter", pending[0]).Output()
			if err != nil {
				lacking(t, "systemd-analyze syscall-filter: ", err)
			}

			for line := range strings.Lines(string(out)) {
				switch line = strings.TrimSpace(line); {
				case line == "" || line == pending[0] || strings.HasPrefix(line, "#"):
				case strings.HasPrefix(line, "@"):
					pending = append(pending, line)
				default:
					all[line] = true
				}
			}
		}

		return all
	}

	allowed := expand("@system-service")

	for _, group := range strings.Fields(groups[1]) {
		for call := range expand(group) {
			delete(allowed, call)
		}
	}

	for _, call := range used {
		if !allowed[call] {
			t.Errorf("the daemon uses %s, which the filter forbids", call)
		}
	}
}

// The example configuration is one, and finds the key where the unit puts it.
func TestCredential(t *testing.T) {
	cfg, err := config.Load("../packages/config.yaml")
	if err != nil {
		t.Fatal(err)
	}

	id := regexp.MustCompile(`(?m)^LoadCredential=([\w-]+):`).FindStringSubmatch(readFile(t, unit))
	if want := "/run/credentials/" + unit + "/" + id[1]; cfg.Omni.ServiceAccountKeyFile != want {
		t.Errorf("the key is read from %s, want %s", cfg.Omni.ServiceAccountKeyFile, want)
	}

	if !slices.Contains(strings.Split(readFile(t, unit), "\n"), "StateDirectory="+filepath.Base(cfg.StateDir)) {
		t.Errorf("the unit makes another directory than %s", cfg.StateDir)
	}
}

// used is what strace shows of the daemon: `strace -f` on the story of systemd in
// cmd/omni-syncd and on `omni-syncd demo --once`, without what the tests do.
var used = strings.Fields(`accept4 bind clock_gettime clone clone3 close connect epoll_create1 epoll_ctl epoll_pwait eventfd2 execve exit_group
	fchmodat fcntl fdatasync flock fstat fsync ftruncate futex getcwd getdents64 getpeername getpid getrandom getsockname getsockopt gettid getuid
	inotify_add_watch inotify_init1 ioctl linkat listen lseek madvise mkdirat mmap mprotect munmap nanosleep newfstatat openat pidfd_open prctl pread64
	prlimit64 pwrite64 read readlinkat renameat rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield setsockopt sigaltstack socket
	statfs statx tgkill uname unlinkat write`)

func readFile(t *testing.T, path string) string {
	t.Helper()

	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	return string(data)
}
