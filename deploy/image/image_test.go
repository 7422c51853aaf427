// Package image holds what the container image is made of, and the test that builds it, looks
// into it and runs what is in it.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/x509"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// archive is an OCI archive: https://github.com/opencontainers/image-spec.
type archive map[string][]byte

// The parts of an image's documents that are looked at.
type (
	descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Platform    *platform         `json:"platform"`
		Annotations map[string]string `json:"annotations"`
	}
	platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	index struct {
		Manifests []descriptor `json:"manifests"`
	}
	manifest struct {
		Config descriptor   `json:"config"`
		Layers []descriptor `json:"layers"`
	}
	image struct {
		platform

		Created time.Time `json:"created"`
		Config  struct {
			User       string
			Env        []string
			Entrypoint []string
			Cmd        []string
			WorkingDir string
			Labels     map[string]string
			Volumes    map[string]any
		} `json:"config"`
		History []struct {
			Created time.Time `json:"created"`
		} `json:"history"`
	}
)

const version = "v1.2.3"

// build makes the archive as `make image` does.
func build(t *testing.T) archive {
	t.Helper()

	if os.Getenv("OMNI_SYNCD_TEST_IMAGE") == "" {
		t.Skip("OMNI_SYNCD_TEST_IMAGE=1 builds the image for two architectures; it needs buildah and takes minutes")
	}

	dist := t.TempDir()

	out, err := exec.CommandContext(t.Context(), "make", "-C", "../..", "image", "DIST="+dist, "VERSION="+version).CombinedOutput()
	if err != nil {
		t.Fatalf("make image: %v\n%s", err, out)
	}

	file, err := os.ReadFile(filepath.Join(dist, "omni-syncd.oci.tar"))
	if err != nil {
		t.Fatal(err)
	}

	all := archive{}

	for header, content := range entries(t, file) {
		all[strings.TrimPrefix(header.Name, "./")] = content
	}

	return all
}

// entries returns what is in a tar file, by its header.
func entries(t *testing.T, file []byte) map[*tar.Header][]byte {
	t.Helper()

	all := map[*tar.Header][]byte{}

	for reader := tar.NewReader(bytes.NewReader(file)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return all
		}

		if err != nil {
			t.Fatal(err)
		}

		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}

		all[header] = content
	}
}

// blob returns what a digest stands for, and makes sure that it does.
func (a archive) blob(t *testing.T, digest string) []byte {
	t.Helper()

	content, ok := a["blobs/"+strings.Replace(digest, ":", "/", 1)]
	if sum := sha256.Sum256(content); !ok || digest != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Fatalf("there is no %s in the archive", digest)
	}

	return content
}

func decode[T any](t *testing.T, text []byte) (value T) {
	t.Helper()

	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}

	return value
}

// images returns the index's digest and the images in it by architecture.
func (a archive) images(t *testing.T) (string, map[string]manifest) {
	t.Helper()

	top := decode[index](t, a["index.json"])
	if len(top.Manifests) != 1 || top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != version {
		t.Fatalf("%+v", top)
	}

	images := map[string]manifest{}

	var order []string

	for _, d := range decode[index](t, a.blob(t, top.Manifests[0].Digest)).Manifests {
		if d.Platform == nil || d.Platform.OS != "linux" {
			t.Fatalf("%+v", d)
		}

		order = append(order, d.Platform.Architecture)
		images[d.Platform.Architecture] = decode[manifest](t, a.blob(t, d.Digest))
	}

	if d := cmp.Diff([]string{"amd64", "arm64"}, order); d != "" { // else the digest is another one each time
		t.Errorf("architectures (-want +got):\n%s", d)
	}

	return top.Manifests[0].Digest, images
}

// The image holds the program and the authorities that it trusts, for both architectures, and
// nothing else. The program runs with nothing but that, as nobody in particular.
func TestImage(t *testing.T) {
	archive := build(t)
	digest, images := archive.images(t)

	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			checkConfig(t, decode[image](t, archive.blob(t, images[arch].Config.Digest)), arch)

			root := t.TempDir()
			got := unpack(t, archive, images[arch], root)

			want := map[string]string{
				"etc": "drwxr-xr-x 0:0", "etc/ssl": "drwxr-xr-x 0:0", "etc/ssl/certs": "drwxr-xr-x 0:0", "usr": "drwxr-xr-x 0:0", "usr/bin": "drwxr-xr-x 0:0",
				"tmp":                               "dtrwxrwxrwx 0:0",
				"etc/ssl/certs/ca-certificates.crt": "-rw-r--r-- 0:0",
				"usr/bin/omni-syncd":                "-rwxr-xr-x 0:0",
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("files (-want +got):\n%s", d)
			}

			checkBinary(t, filepath.Join(root, "usr/bin/omni-syncd"), machine)
			checkRoots(t, filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))

			if arch == runtime.GOARCH && os.Geteuid() == 0 {
				checkRun(t, root)
			}
		})
	}

	t.Run("again", func(t *testing.T) {
		if again, _ := build(t).images(t); again != digest {
			t.Errorf("built twice it is %s and %s", digest, again)
		}
	})
}

func checkConfig(t *testing.T, image image, arch string) {
	t.Helper()

	epoch, err := exec.CommandContext(t.Context(), "git", "log", "-1", "--format=%ct %H").Output()
	if err != nil {
		t.Fatal(err)
	}

	var (
		seconds int64
		commit  string
	)
	if _, err := fmt.Sscan(string(epoch), &seconds, &commit); err != nil {
		t.Fatal(err)
	}

	c := image.Config

	for what, pair := range map[string][2]any{
		"architecture": {arch, image.Architecture},
		"user":         {"65532:65532", c.User},
		"entrypoint":   {[]string{"/usr/bin/omni-syncd"}, c.Entrypoint},
		"command":      {0, len(c.Cmd)},
		"environment":  {[]string{"PATH=/usr/bin", "RUNTIME_DIRECTORY=/tmp/omni-syncd"}, c.Env},
		"created":      {seconds, image.Created.Unix()},
		"volumes":      {0, len(c.Volumes)},
		"version":      {version, c.Labels["org.opencontainers.image.version"]},
		"revision":     {commit, c.Labels["org.opencontainers.image.revision"]},
		"licenses":     {"Apache-2.0", c.Labels["org.opencontainers.image.licenses"]},
		"source":       {"https://github.com/omni-syncd/omni-syncd", c.Labels["org.opencontainers.image.source"]},
	} {
		if d := cmp.Diff(pair[0], pair[1]); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}

	for _, step := range image.History {
		if step.Created.Unix() != seconds {
			t.Errorf("a step of %s", step.Created)
		}
	}
}

// unpack puts the layers into a folder, and returns mode and owner of what is in them.
func unpack(t *testing.T, archive archive, m manifest, root string) map[string]string {
	t.Helper()

	found := map[string]string{}

	for _, layer := range m.Layers {
		unzipped, err := gzip.NewReader(bytes.NewReader(archive.blob(t, layer.Digest)))
		if err != nil {
			t.Fatal(err)
		}

		content, err := io.ReadAll(unzipped)
		if err != nil {
			t.Fatal(err)
		}

		all := entries(t, content)

		for header := range all {
			name := strings.Trim(strings.TrimPrefix(header.Name, "./"), "/")
			found[name] = fmt.Sprintf("%s %d:%d", header.FileInfo().Mode(), header.Uid, header.Gid)

			if header.Typeflag != tar.TypeDir {
				continue
			}

			if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
				t.Fatal(err)
			}

			if err := os.Chmod(filepath.Join(root, name), header.FileInfo().Mode()); err != nil {
				t.Fatal(err)
			}
		}

		for header, content := range all {
			if header.Typeflag == tar.TypeReg {
				if err := os.WriteFile(filepath.Join(root, header.Name), content, fs.FileMode(header.Mode)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}

	return found
}

func checkBinary(t *testing.T, path string, machine elf.Machine) {
	t.Helper()

	binary, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close() //nolint:errcheck // only read from

	if binary.Machine != machine {
		t.Errorf("it is for %s", binary.Machine)
	}

	libraries, err := binary.ImportedLibraries()
	if err != nil || len(libraries) > 0 || binary.Section(".interp") != nil {
		t.Errorf("it is not static: %v %v", libraries, err)
	}
}

func checkRoots(t *testing.T, path string) {
	t.Helper()

	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	names := map[string]bool{}

	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !certificate.IsCA {
			t.Error(certificate, err)

			continue
		}

		names[certificate.Subject.CommonName] = true
	}

	if len(names) < 80 || !names["ISRG Root X1"] || !names["DigiCert Global Root G2"] {
		t.Errorf("it trusts %d: %v", len(names), names)
	}
}

// checkRun runs the program with the image as its whole world, as the image's user.
func checkRun(t *testing.T, root string) {
	t.Helper()

	for _, args := range [][]string{{"version"}, {"demo", "--once"}} {
		cmd := exec.CommandContext(t.Context(), "/usr/bin/omni-syncd", args...)
		cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin", "RUNTIME_DIRECTORY=/tmp/omni-syncd"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}

		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}

		if want := map[string]string{"version": version, "demo": "production         Synced"}[args[0]]; !strings.Contains(string(out), want) {
			t.Errorf("%v says\n%s", args, out)
		}
	}
}
