// Package packages holds what the deb and the rpm are made of, and the test that builds,
// installs, upgrades and removes them.
package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// lacking skips a test that cannot be done, or fails it where everything has to be there.
func lacking(t *testing.T, why ...any) {
	t.Helper()

	if os.Getenv("OMNI_SYNCD_TEST_TOOLS") == "required" {
		t.Fatal(why...)
	}

	t.Skip(why...)
}

// need ends a test that lacks a tool.
func need(t *testing.T, tools ...string) {
	t.Helper()

	if runtime.GOOS != "linux" {
		t.Skip("packages are for Linux")
	}

	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			lacking(t, err)
		}
	}
}

// do runs a program and returns what it says.
func do(t *testing.T, name string, args ...string) string {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")

	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}

	return string(out)
}

// build makes the packages of a version as `make package` does.
func build(t *testing.T, version string) (deb, rpm string) {
	t.Helper()

	dist := t.TempDir()
	do(t, "make", "-C", root, "package", "DIST="+dist, "ARCH="+runtime.GOARCH, "VERSION="+version)

	one := func(pattern string) string {
		found, err := filepath.Glob(filepath.Join(dist, pattern))
		if err != nil || len(found) != 1 {
			t.Fatal(pattern, found, err)
		}

		return found[0]
	}

	return one("*.deb"), one("*.rpm")
}

// contents are what is in both packages, with modes and owners.
var contents = []string{
	"-rw-r--r-- root root /etc/omni-syncd/config.yaml",
	"-rw-r--r-- root root /usr/lib/systemd/system/omni-syncd.service",
	"-rw-r--r-- root root /usr/share/doc/omni-syncd/copyright",
	"-rwxr-xr-x root root /usr/bin/omni-syncd",
	"drwx------ root root /etc/omni-syncd/credentials",
	"drwxr-xr-x root root /etc/omni-syncd",
}

// listed picks the files and our directories out of a listing.
func listed(t *testing.T, listing string, line *regexp.Regexp) (all []string) {
	t.Helper()

	for _, m := range line.FindAllStringSubmatch(listing, -1) {
		path := "/" + strings.Trim(m[4], "/")
		if m[1][0] != 'd' || strings.HasPrefix(path, "/etc/omni-syncd") {
			all = append(all, m[1]+" "+m[2]+" "+m[3]+" "+path)
		}
	}

	return all
}

func compare(t *testing.T, what string, want, got []string) {
	t.Helper()

	sorted := cmp.Transformer("sorted", func(all []string) map[string]bool {
		set := map[string]bool{}
		for _, s := range all {
			set[s] = true
		}

		return set
	})
	if d := cmp.Diff(want, got, sorted); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// The deb holds what it should, and is installed, upgraded, removed and purged by dpkg, in a
// root of its own.
func TestDeb(t *testing.T) {
	if os.Getenv("OMNI_SYNCD_TEST_PACKAGES") == "" {
		t.Skip("`make test-packages` builds, installs and removes the packages; as root")
	}

	need(t, "make", "git", "dpkg", "dpkg-deb")

	if os.Geteuid() != 0 {
		lacking(t, "dpkg installs as root only")
	}

	first, rpm := build(t, "v1.0.0")
	second, _ := build(t, "v1.1.0")

	compare(t, "contents of the deb", contents,
		listed(t, do(t, "dpkg-deb", "-c", first), regexp.MustCompile(`(?m)^(\S+) (\w+)/(\w+) .* \./(\S+)$`)))

	for field, want := range map[string]string{"Package": "omni-syncd", "Version": "1.0.0", "Architecture": runtime.GOARCH, "Depends": "systemd (>= 250)"} {
		if got := strings.TrimSpace(do(t, "dpkg-deb", "-f", first, field)); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}

	control := t.TempDir()
	do(t, "dpkg-deb", "-e", first, control)

	if got := read(t, control, "conffiles"); strings.TrimSpace(got) != "/etc/omni-syncd/config.yaml" {
		t.Errorf("conffiles: %q", got)
	}

	for _, script := range []string{"postinst", "prerm", "postrm"} {
		do(t, "sh", "-n", filepath.Join(control, script))
	}

	target := t.TempDir()
	for _, dir := range []string{"updates", "info", "triggers"} {
		write(t, target, "var/lib/dpkg/"+dir+"/.keep", "")
	}

	write(t, target, "var/lib/dpkg/status", "")

	dpkg := func(args ...string) {
		t.Helper()
		// Without a chroot, since there is no shell in that root, and without what the package
		// depends on, which is not there either.
		do(t, "dpkg", append([]string{"--root=" + target, "--force-script-chrootless", "--force-depends", "--no-triggers"}, args...)...)
	}

	dpkg("--install", first)

	if got := do(t, filepath.Join(target, "usr/bin/omni-syncd"), "version"); !strings.Contains(got, "v1.0.0") {
		t.Errorf("the first version says it is %s", got)
	}

	unit := filepath.Join(target, "usr/lib/systemd/system/omni-syncd.service")
	if read(t, filepath.Dir(unit), filepath.Base(unit)) != read(t, root, "deploy/systemd/omni-syncd.service") {
		t.Error("the unit is another one")
	}

	// What a person and the service make.
	mine := read(t, target, "etc/omni-syncd/config.yaml") + "# mine\n"
	write(t, target, "etc/omni-syncd/config.yaml", mine)
	write(t, target, "etc/omni-syncd/credentials/omni-key", "key")
	write(t, target, "etc/systemd/system/omni-syncd.service.d/override.conf", "")
	write(t, target, "var/lib/private/omni-syncd/history.db", "")

	if err := os.Symlink("private/omni-syncd", filepath.Join(target, "var/lib/omni-syncd")); err != nil {
		t.Fatal(err)
	}

	dpkg("--install", second)

	if got := do(t, filepath.Join(target, "usr/bin/omni-syncd"), "version"); !strings.Contains(got, "v1.1.0") {
		t.Errorf("the second version says it is %s", got)
	}

	kept := func(when string) {
		t.Helper()

		if read(t, target, "etc/omni-syncd/config.yaml") != mine || read(t, target, "etc/omni-syncd/credentials/omni-key") != "key" {
			t.Errorf("%s changed what is mine", when)
		}

		if info, err := os.Stat(filepath.Join(target, "etc/omni-syncd/credentials")); err != nil || info.Mode().Perm() != 0o700 {
			t.Error(when, info, err)
		}

		read(t, target, "var/lib/private/omni-syncd/history.db")
	}

	kept("the upgrade")
	dpkg("--remove", "omni-syncd")
	kept("the removal")

	if _, err := os.Stat(unit); err == nil {
		t.Error("the unit outlives the removal")
	}

	dpkg("--purge", "omni-syncd")

	for _, path := range []string{"etc/omni-syncd", "etc/systemd/system/omni-syncd.service.d", "var/lib/private/omni-syncd", "var/lib/omni-syncd", "usr/bin/omni-syncd"} {
		if _, err := os.Lstat(filepath.Join(target, path)); err == nil {
			t.Error("the purge leaves ", path)
		}
	}

	t.Run("rpm", func(t *testing.T) { testRPM(t, rpm) })
}

// testRPM looks into an rpm and installs and removes it, in a root of its own.
func testRPM(t *testing.T, file string) {
	need(t, "rpm")

	target := t.TempDir()
	rpm := func(args ...string) string {
		t.Helper()

		return do(t, "rpm", append([]string{"--root", target}, args...)...)
	}

	compare(t, "contents of the rpm", contents,
		listed(t, rpm("-qlvp", file), regexp.MustCompile(`(?m)^(\S+) +\d+ (\w+) +(\w+) .* (/\S+)$`)))

	if got := strings.TrimSpace(rpm("-qcp", file)); got != "/etc/omni-syncd/config.yaml" {
		t.Errorf("configuration files: %q", got)
	}

	if got := rpm("-qp", "--scripts", file); strings.Count(got, "/bin/sh") < 3 {
		t.Errorf("scripts:\n%s", got)
	}

	rpm("--initdb")
	// There is no shell in that root.
	rpm("--nodeps", "--noscripts", "--ignorearch", "-i", file)

	mine := read(t, target, "etc/omni-syncd/config.yaml") + "# mine\n"
	write(t, target, "etc/omni-syncd/config.yaml", mine)
	rpm("--nodeps", "--noscripts", "-e", "omni-syncd")

	if read(t, target, "etc/omni-syncd/config.yaml.rpmsave") != mine {
		t.Error("the removal changed what is mine")
	}

	if _, err := os.Lstat(filepath.Join(target, "usr/bin/omni-syncd")); err == nil {
		t.Error("the binary outlives the removal")
	}
}

// The scripts take every call of dpkg and rpm, and do nothing on a machine that is not the
// one the package is installed on, or that systemd does not run.
func TestScripts(t *testing.T) {
	need(t, "sh")

	for _, script := range []string{"postinstall.sh", "preremove.sh", "postremove.sh"} {
		for _, args := range [][]string{
			{"configure"}, {"configure", "1.0.0"}, {"abort-upgrade", "1.0.0"}, {"remove"}, {"upgrade", "1.1.0"}, {"failed-upgrade", "1.0.0"},
			{"abort-install"}, {"disappear", "x"}, {"purge"}, {"0"}, {"1"}, {"2"},
		} {
			target := t.TempDir()
			write(t, target, "etc/omni-syncd/config.yaml", "")

			// A systemctl that may not be called.
			write(t, target, "bin/systemctl", "#!/bin/sh\nexit 9\n")

			if err := os.Chmod(filepath.Join(target, "bin/systemctl"), 0o755); err != nil {
				t.Fatal(err)
			}

			cmd := exec.CommandContext(t.Context(), "sh", append([]string{script}, args...)...)
			cmd.Env = []string{"DPKG_ROOT=" + target, "PATH=" + filepath.Join(target, "bin") + ":" + os.Getenv("PATH")}

			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s %v: %v %s", script, args, err, out)
			}

			_, err := os.Stat(filepath.Join(target, "etc/omni-syncd/config.yaml"))
			if purged := script == "postremove.sh" && args[0] == "purge"; purged == (err == nil) {
				t.Errorf("%s %v: the configuration: %v", script, args, err)
			}
		}
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()

	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}

	return string(data)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()

	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
