package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/siderolabs/go-api-signature/pkg/pgp"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/template"
	"github.com/siderolabs/omni/client/pkg/template/operations"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni/installdisk"
)

type storyCommand = func(ts *testscript.TestScript, neg bool, args []string)

var storyCommands = map[string]storyCommand{
	"expand":        cmdExpand,
	"commit":        cmdCommit,
	"omni":          cmdOmni,
	"upstream-diff": cmdUpstreamDiff,
	"upstream-sync": cmdUpstreamSync,
	"no-calls":      cmdNoCalls,
	"until":         cmdUntil,
	"other-key":     cmdOtherKey,
	"write-key":     cmdWriteKey,
}

// expand FILE...: replaces the story's variables in files.
func cmdExpand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		path := ts.MkAbs(name)
		ts.Check(os.WriteFile(path, []byte(expand(ts, ts.ReadFile(name))), 0o644))
	}
}

// commit DIR MESSAGE: makes DIR a repository if it is none, expands the story's
// variables in its files and commits everything.
func cmdCommit(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: commit DIR MESSAGE")
	}

	dir := ts.MkAbs(args[0])
	if _, err := os.Stat(filepath.Join(dir, ".git")); err != nil {
		ts.Check(ts.Exec("git", "init", "--quiet", "--initial-branch=main", dir))
	}

	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	ts.Check(err)
	cmdExpand(ts, false, files)

	ts.Check(ts.Exec("git", "-C", dir, "add", "--all"))
	ts.Check(ts.Exec("git", "-C", dir, "commit", "--quiet", "--allow-empty", "--message", args[1]))
}

// omni VERB KIND ID [ARG...] acts on Omni as a person with its UI would:
//
//	omni has KIND ID [KEY=VALUE...]       waits until it exists and is not torn down, with these labels or annotations; KEY=- is "without", and KEY=* "with any"
//	omni gone KIND ID                     waits until it does not exist
//	omni label KIND ID KEY=VALUE...       sets labels; KEY=- removes one
//	omni annotate KIND ID KEY=VALUE...    the same for annotations
//	omni destroy KIND ID                  tears it down
//	omni patch ID CLUSTER DATA            makes a config patch
//	omni upgraded CLUSTER VERSION         checks that Kubernetes is at this version now; it waits for nothing
//	omni power MACHINE on|off             switches a machine of the embedded Omni
func cmdOmni(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: omni VERB KIND ID [ARG...]")
	}

	ctx, cancel := waitContext(ts)
	defer cancel()

	st := storyOf(ts).conn.State()

	switch args[0] {
	case "power":
		ts.Check(storyOf(ts).server.SetMachinePower(ctx, args[1], args[2] == "on"))

		return
	case "upgraded":
		r, err := st.Get(ctx, omnires.NewKubernetesUpgradeStatus(args[1]).Metadata())
		ts.Check(err)

		spec := r.(*omnires.KubernetesUpgradeStatus).TypedSpec().Value //nolint:forcetypeassert // a type has one Go type
		if spec.GetPhase() != specs.KubernetesUpgradeStatusSpec_Done || spec.GetLastUpgradeVersion() != args[2] {
			ts.Fatalf("%s is not upgraded to %s: %v", args[1], args[2], spec)
		}

		return
	case "patch":
		patch := omnires.NewConfigPatch(args[1])
		patch.Metadata().Labels().Set(omnires.LabelCluster, args[2])
		ts.Check(patch.TypedSpec().Value.SetUncompressedData([]byte(args[3])))
		ts.Check(st.Create(ctx, patch))

		storyOf(ts).made = append(storyOf(ts).made, *patch.Metadata())

		return
	}

	md := resource.NewMetadata(resources.DefaultNamespace, kindType(ts, args[1]), args[2], resource.VersionUndefined)

	switch args[0] {
	case "has":
		_, err := st.WatchFor(ctx, md, state.WithEventTypes(state.Created, state.Updated), state.WithCondition(func(r resource.Resource) (bool, error) {
			return r.Metadata().Phase() == resource.PhaseRunning && matches(r, args[3:]), nil
		}))
		if err != nil {
			ts.Fatalf("waiting for %s %s %v: %v", args[1], args[2], args[3:], err)
		}
	case "gone":
		if _, err := st.WatchFor(ctx, md, state.WithEventTypes(state.Destroyed)); err != nil {
			ts.Fatalf("waiting for %s %s to go: %v", args[1], args[2], err)
		}
	case "label":
		edit(ctx, ts, st, md, func(r resource.Resource, key, value string, remove bool) {
			if remove {
				r.Metadata().Labels().Delete(key)
			} else {
				r.Metadata().Labels().Set(key, value)
			}
		}, args[3:])
	case "annotate":
		edit(ctx, ts, st, md, func(r resource.Resource, key, value string, remove bool) {
			if remove {
				r.Metadata().Annotations().Delete(key)
			} else {
				r.Metadata().Annotations().Set(key, value)
			}
		}, args[3:])
	case "destroy":
		_, err := st.Teardown(ctx, md)
		ts.Check(err)
	default:
		ts.Fatalf("omni: unknown verb %q", args[0])
	}
}

func kindType(ts *testscript.TestScript, kind string) resource.Type {
	for typ, name := range map[resource.Type]string{
		omnires.ClusterType: "Cluster", omnires.MachineSetType: "MachineSet", omnires.MachineSetNodeType: "MachineSetNode",
		omnires.ConfigPatchType: "ConfigPatch", omnires.MachineClassType: "MachineClass", omnires.KernelArgsType: "KernelArgs",
		omnires.ExtensionsConfigurationType: "ExtensionsConfiguration", omnires.MachineStatusType: "MachineStatus",
		installdisk.Type: "MachineInstallDiskConfig",
	} {
		if name == kind {
			return typ
		}
	}

	ts.Fatalf("unknown kind %q", kind)

	return ""
}

func matches(r resource.Resource, conditions []string) bool {
	for _, condition := range conditions {
		key, want, _ := strings.Cut(condition, "=")

		got, exists := r.Metadata().Labels().Get(key)
		if !exists {
			got, exists = r.Metadata().Annotations().Get(key)
		}

		if key == "kubernetes" {
			cluster, ok := r.(*omnires.Cluster)
			got, exists = "", ok
			if ok {
				got = cluster.TypedSpec().Value.KubernetesVersion
			}
		}

		if want == "-" && exists || want != "-" && !exists || want != "-" && want != "*" && got != want {
			return false
		}
	}

	return true
}

func edit(ctx context.Context, ts *testscript.TestScript, st state.State, md resource.Metadata,
	set func(r resource.Resource, key, value string, remove bool), edits []string,
) {
	_, err := st.UpdateWithConflicts(ctx, md, func(r resource.Resource) error {
		for _, e := range edits {
			key, value, _ := strings.Cut(e, "=")
			set(r, key, value, value == "-")
		}

		return nil
	})
	ts.Check(err)
}

// upstream-diff FILE: prints the changed lines of upstream's own diff to stdout, without
// those about ownership.
func cmdUpstreamDiff(ts *testscript.TestScript, _ bool, args []string) {
	withTemplate(ts, args[0], func(ctx context.Context, file *os.File, root *os.Root) error {
		var out bytes.Buffer
		if err := operations.DiffTemplate(ctx, file, &out, storyOf(ts).conn.State(), root); err != nil {
			return err
		}

		fmt.Fprintln(ts.Stdout(), "upstream-diff:")

		for line := range strings.Lines(out.String()) {
			if isChange(line) && !isOwnership(line) {
				fmt.Fprint(ts.Stdout(), line)
			}
		}

		return nil
	})
}

func isChange(line string) bool {
	return strings.HasPrefix(line, "+") && !strings.HasPrefix(line, "+++") ||
		strings.HasPrefix(line, "-") && !strings.HasPrefix(line, "---")
}

// isOwnership accepts the marks, and the key they stand under where nothing else does.
func isOwnership(line string) bool {
	key := strings.TrimSpace(line[1:])

	return strings.HasPrefix(key, diff.MarkSource+":") || strings.HasPrefix(key, diff.MarkOrigin+":") || strings.HasPrefix(key, diff.MarkGitOps+":") ||
		strings.HasPrefix(key, diff.MarkLocked+":") || key == "annotations:"
}

// upstream-sync FILE: applies a template as omnictl does.
func cmdUpstreamSync(ts *testscript.TestScript, _ bool, args []string) {
	loaded, err := template.Load(strings.NewReader(ts.ReadFile(args[0])))
	ts.Check(err)

	cluster, err := loaded.ClusterName()
	ts.Check(err)

	storyOf(ts).made = append(storyOf(ts).made, *omnires.NewCluster(cluster).Metadata())

	withTemplate(ts, args[0], func(ctx context.Context, file *os.File, root *os.Root) error {
		return operations.SyncTemplate(ctx, file, ts.Stdout(), storyOf(ts).conn.State(), operations.SyncOptions{}, root)
	})
}

func withTemplate(ts *testscript.TestScript, name string, fn func(context.Context, *os.File, *os.Root) error) {
	file, err := os.Open(ts.MkAbs(name))
	ts.Check(err)
	defer file.Close() //nolint:errcheck // only read from

	root, err := os.OpenRoot(filepath.Dir(file.Name()))
	ts.Check(err)
	defer root.Close() //nolint:errcheck // only read from

	ctx, cancel := waitContext(ts)
	defer cancel()

	ts.Check(fn(ctx, file, root))
}

// no-calls DURATION: waits until omni-syncd has not called the embedded Omni for that time. On a busy machine it may be
// late to settle; one that calls again and again never does.
func cmdNoCalls(ts *testscript.TestScript, _ bool, args []string) {
	server := storyOf(ts).server
	if server == nil {
		ts.Fatalf("no-calls needs the embedded Omni; guard it with [embedded]")
	}

	duration, err := time.ParseDuration(args[0])
	ts.Check(err)

	ctx, cancel := waitContext(ts)
	defer cancel()

	before := server.Calls()
	if err := server.WaitQuiet(ctx, duration); err != nil {
		ts.Fatalf("calls although nothing changed: %v (%v)", server.Calls().Since(before), err)
	}
}

// until PATTERN PROGRAM [ARG...]: runs a program again and again until what it prints, to stdout or stderr, matches.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM [ARG...]")
	}

	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)

	ctx, cancel := waitContext(ts)
	defer cancel()

	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()

	for {
		_ = ts.Exec(args[1], args[2:]...) // a failure is printed, and may be what is waited for

		if pattern.MatchString(ts.ReadFile("stdout")) || pattern.MatchString(ts.ReadFile("stderr")) {
			return
		}

		select {
		case <-ctx.Done():
			ts.Fatalf("%q is never printed by %s: %v", args[0], strings.Join(args[1:], " "), ctx.Err())
		case <-tick.C:
		}
	}
}

// other-key NAME: sets a variable to a well-formed service account key that no Omni knows.
func cmdOtherKey(ts *testscript.TestScript, _ bool, args []string) {
	key, err := pgp.GenerateKey("other", "", "other@serviceaccount.omni.sidero.dev", time.Hour)
	ts.Check(err)

	encoded, err := serviceaccount.Encode("other", key)
	ts.Check(err)
	ts.Setenv(args[0], encoded)
}

// write-key FILE KEY: writes a key as people do, with a line end.
func cmdWriteKey(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(args[1]+"\n"), 0o600))
}
