package diff_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/report"
)

const (
	classSize3  = "machineClass:\n  name: small\n  size: 3\n"
	classSize5  = "machineClass:\n  name: small\n  size: 5\n"
	classAll    = "machineClass:\n  name: small\n  size: unlimited\n"
	classBig    = "machineClass:\n  name: big\n  size: 3\n"
	smallClass  = "metadata:\n  namespace: default\n  type: MachineClasses.omni.sidero.dev\n  id: small\nspec:\n  matchlabels:\n    - size = small\n"
	sysctlPatch = "machine:\n  sysctls:\n    vm.max_map_count: \"262144\"\n"
	envPatch    = "machine:\n  env:\n    HTTP_PROXY: http://proxy.example.com:3128\n"
	filesPatch  = "machine:\n  files:\n    - path: /var/etc/motd\n      op: create\n      content: hello\n"
	deletePatch = "machine:\n  features:\n    $patch: delete\n"
	kubelet     = "machine:\n  kubelet:\n    extraArgs:\n      max-pods: \"%d\"\n"
	docPatch    = "apiVersion: v1alpha1\nkind: WatchdogTimerConfig\ndevice: /dev/watchdog0\n"
)

func scenarios() map[string]scenario {
	manifest := func(content, mode string) string {
		return "  manifests:\n    - name: motd\n      mode: " + mode + "\n      inline:\n        - apiVersion: v1\n          kind: ConfigMap\n          metadata:\n            name: motd\n            namespace: default\n          data:\n            text: " + content + "\n"
	}

	foreign := func(o omniState) omniState {
		return append(o, patchOf("one", "500-by-hand", sysctlPatch))
	}

	many := func(pods int, kubernetes func(i int) string) files {
		all := files{}
		for i := range 60 {
			name := fmt.Sprintf("edge-%02d", i)
			all["clusters/"+name+".yaml"] = tmpl{name: name, kubernetes: kubernetes(i), controlPlanes: []int{10 * (i + 1)}, machines: []int{10*(i+1) + 1},
				cluster: patches("kubelet", fmt.Sprintf(kubelet, pods+i)) + "systemExtensions:\n  - siderolabs/iscsi-tools\n", workers: fmt.Sprintf("labels:\n  wave: \"%d\"\n", pods)}.String()
		}

		return all
	}

	all := map[string]scenario{
		"kubernetes": {before: one(tmpl{}), after: one(tmpl{kubernetes: "v1.35.0"})},
		"talos":      {before: one(tmpl{}), after: one(tmpl{talos: "v1.12.1"})},
		"talos-in-parallel": {
			before: one(tmpl{workers: "upgradeStrategy:\n  type: Rolling\n  rolling:\n    maxParallelism: 2\n"}),
			after:  one(tmpl{talos: "v1.13.0", workers: "upgradeStrategy:\n  type: Rolling\n  rolling:\n    maxParallelism: 2\n"}),
		},
		"both-versions": {before: one(tmpl{}), after: one(tmpl{kubernetes: "v1.35.0", talos: "v1.13.0"})},
		"minor-skipped": {
			before: one(tmpl{}), after: one(tmpl{kubernetes: "v1.36.0", talos: "v1.14.0"}),
			problems: []report.Finding{{Rule: "refused-by-omni", Level: report.Error, Target: "one", File: "clusters/one.yaml", Line: 4, Column: 12, Message: "Kubernetes cannot go from 1.34.3 to 1.36.0: Omni goes up by one minor version at a time and never down by one"}},
		},
		"downgrade":            {before: one(tmpl{kubernetes: "v1.34.3", talos: "v1.13.0"}), after: one(tmpl{kubernetes: "v1.34.1", talos: "v1.12.0"})},
		"workers-added":        {before: one(tmpl{}), after: one(tmpl{machines: []int{4, 5, 6, 7}})},
		"workers-removed":      {before: one(tmpl{machines: []int{4, 5, 6}}), after: one(tmpl{machines: []int{4}})},
		"control-plane-1-to-3": {before: one(tmpl{controlPlanes: []int{1}}), after: one(tmpl{})},
		"control-plane-3-to-1": {before: one(tmpl{}), after: one(tmpl{controlPlanes: []int{1}}),
			held: map[string]string{"one": "2 of 3 control plane machines would leave at once, and etcd would lose its quorum; to do it all the same, confirm: 8f14e45f"}},
		"control-plane-3-to-2":       {before: one(tmpl{}), after: one(tmpl{controlPlanes: []int{1, 2}})},
		"control-plane-replaced":     {before: one(tmpl{}), after: one(tmpl{controlPlanes: []int{1, 2, 8}})},
		"control-plane-all-replaced": {before: one(tmpl{}), after: one(tmpl{controlPlanes: []int{6, 7, 8}})},
		"machine-changes-role":       {before: one(tmpl{machines: []int{4, 5, 6}}), after: one(tmpl{controlPlanes: []int{1, 2, 3, 6}})},
		"machine-moves": {
			before: files{"a.yaml": tmpl{name: "a", machines: []int{4, 5}}.String(), "b.yaml": tmpl{name: "b", controlPlanes: []int{7}, machines: []int{}}.String()},
			after:  files{"a.yaml": tmpl{name: "a", machines: []int{4}}.String(), "b.yaml": tmpl{name: "b", controlPlanes: []int{7}, machines: []int{5}}.String()},
		},
		"patch-inserted-in-front": {
			before: one(tmpl{cluster: patches("sysctls", sysctlPatch, "proxy", envPatch)}),
			after:  one(tmpl{cluster: patches("labels", "machine:\n  nodeLabels:\n    tier: gold\n", "sysctls", sysctlPatch, "proxy", envPatch)}),
		},
		"patch-renamed":        {before: one(tmpl{cluster: patches("sysctls", sysctlPatch)}), after: one(tmpl{cluster: patches("kernel", sysctlPatch)})},
		"patch-kubelet":        {before: one(tmpl{workers: patches("pods", fmt.Sprintf(kubelet, 110))}), after: one(tmpl{workers: patches("pods", fmt.Sprintf(kubelet, 250))})},
		"patch-reboots":        {before: one(tmpl{cluster: patches("proxy", sysctlPatch)}), after: one(tmpl{cluster: patches("proxy", envPatch)})},
		"patch-document":       {before: one(tmpl{}), after: one(tmpl{cluster: patches("watchdog", docPatch)})},
		"patch-unknown":        {before: one(tmpl{}), after: one(tmpl{workers: patches("features", deletePatch)})},
		"patch-talos-1.14":     {before: one(tmpl{talos: "v1.14.0"}), after: one(tmpl{talos: "v1.14.0", cluster: patches("motd", filesPatch)})},
		"patch-of-one-machine": {before: one(tmpl{}), after: one(tmpl{more: "---\nkind: Machine\nname: " + m1(4) + "\n" + patches("motd", filesPatch)})},
		"patch-overridden": {
			before: one(tmpl{cluster: patches("a", envPatch, "b", "machine:\n  env:\n    HTTP_PROXY: http://other.example.com\n")}),
			after:  one(tmpl{cluster: patches("a", "machine:\n  env:\n    HTTP_PROXY: http://third.example.com\n", "b", "machine:\n  env:\n    HTTP_PROXY: http://other.example.com\n")}),
		},
		"secret-rotated": {
			before: one(tmpl{cluster: patches("registry", "machine:\n  registries:\n    config:\n      registry.example.com:\n        auth:\n          username: bot\n          password: CANARY-OLD\n")}),
			after:  one(tmpl{cluster: patches("registry", "machine:\n  registries:\n    config:\n      registry.example.com:\n        auth:\n          username: bot\n          password: CANARY-NEW\n")}),
		},
		"class-to-machines": {
			before: one(tmpl{workers: classSize3}), after: one(tmpl{}), live: func(o omniState) omniState { return o.joined("one-workers", 6, 7, 8) },
		},
		"class-to-machines-without-omni": {before: one(tmpl{workers: classSize3}), after: one(tmpl{machines: []int{4}}), base: "main"},
		"machines-to-class":              {before: one(tmpl{}), after: one(tmpl{workers: classSize3})},
		"class-switched": {
			before: one(tmpl{workers: classSize3}), after: one(tmpl{workers: classBig}), live: func(o omniState) omniState { return o.joined("one-workers", 6, 7, 8) },
		},
		"class-grows": {
			before: one(tmpl{workers: classSize3}), after: one(tmpl{workers: classSize5}), live: func(o omniState) omniState { return o.joined("one-workers", 6, 7, 8) },
		},
		"class-shrinks": {
			before: one(tmpl{workers: classAll}), after: one(tmpl{workers: classSize3}), live: func(o omniState) omniState { return o.joined("one-workers", 5, 6, 7, 8) },
		},
		"fleet-class-changed": {
			before: files{"fleet/class.yaml": smallClass}, after: files{"fleet/class.yaml": smallClass + "    - rack = 7\n"},
		},
		"fleet-class-removed": {
			before: files{"fleet/class.yaml": smallClass, "clusters/one.yaml": tmpl{}.String()}, after: one(tmpl{}),
		},
		"extension-added":   {before: one(tmpl{}), after: one(tmpl{cluster: "systemExtensions:\n  - siderolabs/iscsi-tools\n"})},
		"extension-removed": {before: one(tmpl{workers: "systemExtensions:\n  - siderolabs/iscsi-tools\n  - siderolabs/qemu-guest-agent\n"}), after: one(tmpl{workers: "systemExtensions:\n  - siderolabs/qemu-guest-agent\n"})},
		"kernel-args":       {before: one(tmpl{workers: "kernelArgs:\n  - console=ttyS0\n"}), after: one(tmpl{workers: "kernelArgs:\n  - console=ttyS0\n  - talos.token=CANARY\n"})},
		"extensions-gone":   {before: one(tmpl{workers: "systemExtensions:\n  - siderolabs/iscsi-tools\n"}), after: one(tmpl{})},
		"cluster-added":     {before: one(tmpl{}), after: files{"clusters/one.yaml": tmpl{}.String(), "clusters/two.yaml": tmpl{name: "two", controlPlanes: []int{6, 7}, machines: []int{}, workers: classAll}.String()}},
		"cluster-removed":   {before: files{"clusters/one.yaml": tmpl{}.String(), "clusters/two.yaml": tmpl{name: "two", controlPlanes: []int{6}, machines: []int{7}}.String()}, after: one(tmpl{})},
		"cluster-kept": {
			before: one(tmpl{}), after: files{}, keep: "the source does not prune (`prune: true` deletes it)",
		},
		"cluster-renamed":           {before: one(tmpl{}), after: files{"clusters/one.yaml": tmpl{name: "uno"}.String()}},
		"labels":                    {before: one(tmpl{}), after: one(tmpl{cluster: "labels:\n  environment: production\n"})},
		"manifest-changed":          {before: one(tmpl{cluster: manifest("hello", "full")}), after: one(tmpl{cluster: manifest("bye", "full")})},
		"manifest-full-to-one-time": {before: one(tmpl{cluster: manifest("hello", "full")}), after: one(tmpl{cluster: manifest("hello", "one-time")})},
		"manifest-one-time-to-full": {before: one(tmpl{cluster: manifest("hello", "one-time")}), after: one(tmpl{cluster: manifest("hello", "full")})},
		"manifest-removed":          {before: one(tmpl{cluster: manifest("hello", "full")}), after: one(tmpl{})},
		"adopted": {before: one(tmpl{}), after: one(tmpl{}), live: func(o omniState) omniState {
			return o.edit(omni.ClusterType, "", unmarked).edit(omni.MachineSetType, "", unmarked).edit(omni.MachineSetNodeType, "", unmarked)
		}},
		"foreign":        {before: one(tmpl{}), after: one(tmpl{kubernetes: "v1.34.4"}), live: foreign},
		"foreign-pruned": {before: one(tmpl{}), after: one(tmpl{}), live: foreign, pruneForeign: true},
		"parts-kept":     {before: one(tmpl{cluster: patches("sysctls", sysctlPatch)}), after: one(tmpl{}), keepParts: true},
		"locked": {before: one(tmpl{}), after: one(tmpl{kubernetes: "v1.35.0"}), live: func(o omniState) omniState {
			return o.edit(omni.ClusterType, "one", note(omni.ClusterLocked, ""))
		}},
		"machine-unlocked": {
			before: one(tmpl{more: "---\nkind: Machine\nname: " + m1(4) + "\nlocked: true\n"}), after: one(tmpl{}),
		},
		"machine-locked-by-git": {
			before: one(tmpl{more: locked(4)}),
			after:  one(tmpl{kubernetes: "v1.35.0", talos: "v1.12.1", cluster: "systemExtensions:\n  - siderolabs/iscsi-tools\n" + patches("proxy", envPatch), more: locked(4)}),
		},
		"template-file-renamed": {before: one(tmpl{}), after: files{"clusters/first.yaml": tmpl{}.String()}},
		"conflict": {before: one(tmpl{}), after: one(tmpl{kubernetes: "v1.35.0"}), live: func(o omniState) omniState {
			return o.edit(omni.MachineSetType, "one-workers", note(diff.MarkSource, "platform"))
		}},
		"suspended":       {before: one(tmpl{}), after: one(tmpl{talos: "v1.12.1"}), held: map[string]string{"one": "suspended by jane since 2026-11-20T10:00:00Z: moving racks, back on Monday"}},
		"suspend-in-git":  {before: one(tmpl{}), after: one(tmpl{cluster: "annotations:\n  omni-syncd/suspend: \"true\"\n"}), held: map[string]string{"one": "the cluster is suspended (omni-syncd/suspend in its template, or `suspend` of its source)"}},
		"empty":           {before: one(tmpl{}), after: one(tmpl{})},
		"broken-template": {before: one(tmpl{}), after: files{"clusters/one.yaml": tmpl{kubernetes: "v1.35.0"}.String(), "clusters/two.yaml": "kind: Cluster\nname: two\nkubernets:\n  version: v1.34.0\n"}},
		"several-at-once": {
			before: files{"clusters/one.yaml": tmpl{cluster: patches("proxy", envPatch)}.String(), "clusters/two.yaml": tmpl{name: "two", controlPlanes: []int{6}, machines: []int{7}}.String(), "fleet/class.yaml": smallClass},
			after: files{"clusters/one.yaml": tmpl{kubernetes: "v1.35.0", machines: []int{4, 8}, cluster: "systemExtensions:\n  - siderolabs/iscsi-tools\n" + patches("proxy", envPatch, "sysctls", sysctlPatch)}.String(),
				"clusters/two.yaml": tmpl{name: "two", talos: "v1.12.2", controlPlanes: []int{6}, machines: []int{7}}.String(), "fleet/class.yaml": smallClass + "    - rack = 7\n"},
		},
		"sixty-clusters": {before: many(100, func(int) string { return "v1.34.3" }), after: many(200, func(i int) string {
			if i == 59 {
				return "v1.34.3"
			}

			return "v1.35.0"
		})},
	}

	maps.Copy(all, fleetScenarios())

	return all
}

// locked is documents that lock machines.
func locked(machines ...int) string {
	text := ""
	for _, m := range machines {
		text += "---\nkind: Machine\nname: " + m1(m) + "\nlocked: true\n"
	}

	return text
}

func unmarked(r resource.Resource) {
	for _, mark := range []string{diff.MarkSource, diff.MarkOrigin, diff.MarkGitOps} {
		r.Metadata().Annotations().Delete(mark)
	}
}

func patchOf(cluster, id, data string) resource.Resource {
	return patch(id, data, label(omni.LabelCluster, cluster))
}

// messageGap is what protobuf puts between two fields of a message: one thing in this build
// and another in the next, so that nobody relies on it.
var messageGap = regexp.MustCompile(`(name:\\*"small\\*"),? +(machine_count)`)

// The golden files are meant to be read: a change of words is reviewed there.
func TestReport(t *testing.T) {
	all := scenarios()

	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			r := all[name].report(t)

			for file, write := range map[string]func(*bytes.Buffer) error{
				"plan.txt":  func(out *bytes.Buffer) error { return diff.WriteReport(out, r, diff.TextOptions{Lines: true}) },
				"plan.md":   func(out *bytes.Buffer) error { return diff.WriteMarkdown(out, r, diff.MarkdownOptions{}) },
				"plan.json": func(out *bytes.Buffer) error { return diff.WriteJSON(out, r) },
				"plan.sarif": func(out *bytes.Buffer) error {
					return report.WriteSARIF(out, r.Findings(), report.SARIFOptions{Rules: diff.Rules()})
				},
			} {
				var out bytes.Buffer
				if err := write(&out); err != nil {
					t.Fatal(err)
				}

				if bytes.Contains(out.Bytes(), []byte("CANARY")) {
					t.Errorf("%s tells a secret", file)
				}

				if name == "sixty-clusters" && file != "plan.md" {
					continue // long, and nothing new
				}

				if *update {
					if err := os.MkdirAll(filepath.Join("testdata", "report", name), 0o755); err != nil {
						t.Fatal(err)
					}
				}

				golden(t, filepath.Join("report", name, file), messageGap.ReplaceAllString(out.String(), "$1, $2"))
			}
		})
	}
}
