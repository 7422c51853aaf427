// Package helm tests the chart with the real helm, and what comes out of it with the real
// configuration loader and a real kube-apiserver.
package helm

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/test/kube"
)

const (
	chart = "omni-syncd"
	// env names the folder with helm and helm-docs, which `make test-chart` builds.
	env = "OMNI_SYNCD_TEST_HELM"
	// release and namespace are what the golden files are rendered with.
	release, namespace = "omni-syncd", "omni"
)

var update = flag.Bool("update", false, "write what the chart renders into testdata, and its README")

func TestMain(m *testing.M) { os.Exit(kube.Wrap(m).Run()) }

// tool returns the path of a program.
func tool(t *testing.T, name string) string {
	t.Helper()

	folder := os.Getenv(env)
	if folder == "" {
		t.Skip(env + " is not set: `make test-chart` builds helm and runs this")
	}

	return filepath.Join(folder, name)
}

// helm runs helm, and returns what it says if it fails.
func helm(t *testing.T, args ...string) (out string, failure string) {
	t.Helper()

	home := filepath.Join(os.TempDir(), "omni-syncd-helm-test")
	cmd := exec.CommandContext(t.Context(), tool(t, "helm"), args...)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)

	var stdout, stderr bytes.Buffer

	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), strings.TrimSpace(stderr.String()+"\n"+err.Error()+"\n") + "\n"
	}

	return stdout.String(), ""
}

// run runs a program that has to succeed.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()

	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}

	return string(out)
}

// template renders a chart with the minimal values and more.
func template(t *testing.T, chart, namespace string, args ...string) (out, failure string) {
	t.Helper()

	return helm(t, append([]string{
		"template", release, chart, "--namespace", namespace, "--kube-version", "1.28.0", "-f", "testdata/values/minimal.yaml",
	}, args...)...)
}

// cases are the names of the combinations of values.
func cases(t *testing.T) (all []string) {
	t.Helper()

	files, err := filepath.Glob("testdata/values/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}

	for _, file := range files {
		all = append(all, strings.TrimSuffix(filepath.Base(file), ".yaml"))
	}

	return all
}

func valuesOf(name string) []string { return []string{"-f", "testdata/values/" + name + ".yaml"} }

// objects reads what was rendered.
func objects(t *testing.T, rendered string) (all []*unstructured.Unstructured) {
	t.Helper()

	for document := range strings.SplitSeq(rendered, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(document), &object.Object); err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}

		if len(object.Object) > 0 {
			all = append(all, object)
		}
	}

	return all
}

// one returns the object of a kind.
func one(t *testing.T, all []*unstructured.Unstructured, kinds ...string) *unstructured.Unstructured {
	t.Helper()

	var found []*unstructured.Unstructured

	for _, object := range all {
		for _, kind := range kinds {
			if object.GetKind() == kind && !strings.HasSuffix(object.GetName(), "-dashboard") {
				found = append(found, object)
			}
		}
	}

	if len(found) != 1 {
		t.Fatalf("there are %d of %v", len(found), kinds)
	}

	return found[0]
}

// Every combination of values renders what it did, helm lint has nothing to say against it, and
// the daemon takes the configuration that comes out.
func TestTemplates(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			out, failure := template(t, chart, namespace, valuesOf(name)...)
			if failure != "" {
				t.Fatal(failure)
			}

			all := objects(t, out)
			out = withoutDashboard(t, out)

			golden := "testdata/rendered/" + name + ".yaml"
			if *update {
				if err := os.WriteFile(golden, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
			}

			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}

			if d := cmp.Diff(string(want), out); d != "" {
				t.Errorf("-want +got, `-update` writes it:\n%s", d)
			}

			if strings.Contains(out, "<nil>") || strings.Contains(out, "%!") {
				t.Error("something has no value")
			}

			args := append([]string{"lint", "--strict", chart, "--kube-version", "1.28.0", "-f", "testdata/values/minimal.yaml"}, valuesOf(name)...)
			if said, failure := helm(t, args...); failure != "" {
				t.Errorf("helm lint: %s%s", said, failure)
			}

			file, _, _ := unstructured.NestedString(one(t, all, "ConfigMap").Object, "data", "config.yaml")
			loads(t, file)
		})
	}
}

// withoutDashboard says in place of the dashboard, which is long, which file it is.
func withoutDashboard(t *testing.T, rendered string) string {
	t.Helper()

	text, err := os.ReadFile(chart + "/files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}

	indented := "    " + strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", "\n    ")

	return strings.Replace(rendered, indented, "    (files/dashboard.json)", 1)
}

// The alerts and the dashboard that the chart brings come out of it as they are in its files.
func TestMonitoring(t *testing.T) {
	out, failure := template(t, chart, namespace, valuesOf("monitoring")...)
	if failure != "" {
		t.Fatal(failure)
	}

	all := objects(t, out)

	var alerts, rendered any

	text, err := os.ReadFile(chart + "/files/alerts.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &alerts)
	}

	if err != nil {
		t.Fatal(err)
	}

	rendered = one(t, all, "PrometheusRule").Object["spec"]
	if groups, _, _ := unstructured.NestedSlice(one(t, all, "PrometheusRule").Object, "spec", "groups"); len(groups) == 0 || !cmp.Equal(normal(t, alerts), normal(t, rendered)) {
		t.Errorf("files/alerts.yaml, -want +got:\n%s", cmp.Diff(normal(t, alerts), normal(t, rendered)))
	}

	dashboard, err := os.ReadFile(chart + "/files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}

	found := false

	for _, object := range all {
		if strings.HasSuffix(object.GetName(), "-dashboard") {
			got, _, _ := unstructured.NestedString(object.Object, "data", "omni-syncd.json")
			if d := cmp.Diff(strings.TrimSpace(string(dashboard)), strings.TrimSpace(got)); d != "" {
				t.Errorf("files/dashboard.json, -want +got:\n%s", d)
			}

			found = json.Valid([]byte(got)) && object.GetLabels()["grafana_dashboard"] == "1"
		}
	}

	if !found {
		t.Error("there is no dashboard that the sidecar would find and Grafana read")
	}
}

// normal returns what JSON makes of a value, in which numbers have one type.
func normal(t *testing.T, value any) (same any) {
	t.Helper()

	text, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(text, &same)
	}

	if err != nil {
		t.Fatal(err)
	}

	return same
}

// loads has the daemon's own loader read a configuration.
func loads(t *testing.T, file string) *config.Config {
	t.Helper()

	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}

	cfg, err := config.Load(path)
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}

	return cfg
}

// The chart with nothing said passes helm lint, which is how people check it.
func TestLint(t *testing.T) {
	if out, failure := helm(t, "lint", "--strict", chart, "--kube-version", "1.28.0"); failure != "" {
		t.Error(out, failure)
	}
}

// What the configuration says is what the values say, also where YAML likes to change it.
func TestConfigKeepsValues(t *testing.T) {
	out, failure := template(t, chart, namespace, valuesOf("credentials")...)
	if failure != "" {
		t.Fatal(failure)
	}

	file, _, _ := unstructured.NestedString(one(t, objects(t, out), "ConfigMap").Object, "data", "config.yaml")
	cfg := loads(t, file)

	if app := cfg.Sources[3].Git.GitHubApp; app.AppID != 1234567890 || app.InstallationID != 98765432 {
		t.Errorf("%+v", app)
	}

	if got := cfg.Sources[4].Git.SemVer; got != "1.10" {
		t.Errorf("semver is %q", got)
	}

	if got := cfg.Sources[5].Git.Tag; got != "2026" {
		t.Errorf("tag is %q", got)
	}

	if cfg.Omni.CAFile != "/etc/omni-syncd/omni-ca/omni.pem" || cfg.Omni.Endpoint != "https://example.omni.siderolabs.io" || cfg.StateDir == "" {
		t.Errorf("%+v", cfg.Omni)
	}
}

// A change of the sources starts no pod again, since the daemon sees it by itself; every other
// change of the configuration does.
func TestChecksum(t *testing.T) {
	sum := func(args ...string) string {
		t.Helper()

		out, failure := template(t, chart, namespace, args...)
		if failure != "" {
			t.Fatal(failure)
		}

		pod, _, _ := unstructured.NestedMap(one(t, objects(t, out), "Deployment").Object, "spec", "template")
		text, _ := yaml.Marshal(pod)

		return string(text)
	}

	before := sum()

	if got := sum("--set", "config.sources[0].git.branch=next"); got != before {
		t.Error("another branch starts the pods again: ", cmp.Diff(before, got))
	}

	if got := sum("--set", "config.retry.maxInterval=5m"); got == before {
		t.Error("another retry.maxInterval does not start the pods again")
	}
}

// Two releases never take each other's Secrets for their own, wherever they are installed: what
// marks those is another one for each, and a label can hold it. Nor do their roles have the
// same name.
func TestReleasesApart(t *testing.T) {
	seen := map[string]string{}

	for _, at := range [][2]string{
		{"a", "b"}, {"b", "a"}, {"a", "b-c"}, {"a-b", "c"}, {"omni", "omni-syncd"}, {"argo", "omni-syncd"},
		{strings.Repeat("n", 63), strings.Repeat("r", 52) + "1"}, {strings.Repeat("n", 62) + "m", strings.Repeat("r", 53)}, {"n." + strings.Repeat("x", 20), strings.Repeat("r", 40)},
	} {
		args := append([]string{"template", at[1], chart, "--namespace", at[0], "--kube-version", "1.28.0", "--set", "fullnameOverride=" + at[1], "-f", "testdata/values/minimal.yaml"}, valuesOf("secrets-elsewhere")...)

		out, failure := helm(t, args...)
		if failure != "" {
			t.Fatal(failure)
		}

		all := objects(t, out)
		file, _, _ := unstructured.NestedString(one(t, all, "ConfigMap").Object, "data", "config.yaml")
		instance := loads(t, file).Access.Secrets.Instance

		if problems := validation.IsValidLabelValue(instance); instance == "" || len(problems) > 0 {
			t.Errorf("%q: %v", instance, problems)
		}

		for _, object := range all {
			if object.GetNamespace() == "default" {
				instance += " " + object.GetName()
			}
		}

		for _, key := range strings.Fields(instance) {
			if before := seen[key]; before != "" && before != fmt.Sprint(at) {
				t.Errorf("%v and %s both have %s", at, before, key)
			}

			seen[key] = fmt.Sprint(at)
		}
	}

	out, failure := template(t, chart, namespace, valuesOf("secrets")...)
	if failure != "" || !strings.Contains(out, "instance: fleet\n") {
		t.Error("what was chosen is not kept: ", out, failure)
	}
}
