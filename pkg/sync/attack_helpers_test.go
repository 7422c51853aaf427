package sync_test

import (
	"context"
	"fmt"
	"strings"
	gosync "sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// patience bounds a wait for something that takes milliseconds if it happens at all.
const patience = 20 * time.Second

// within is Daemon.Until for what has to happen soon.
func within(t *testing.T, d *daemon.Daemon, what string, condition func(sync.Status) bool) sync.Status {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	var last sync.Status

	if err := d.WaitStatus(ctx, func(s sync.Status) bool {
		last = s

		return condition(s)
	}); err != nil {
		t.Fatalf("%s: %v; the last status was:\n%s", what, err, daemon.Describe(last))
	}

	return last
}

// applied waits until a revision is in force and everything is Synced.
func applied(t *testing.T, d *daemon.Daemon, id string) sync.Status {
	t.Helper()

	return within(t, d, "applying "+id, func(s sync.Status) bool {
		return s.Settled() && s.Synced() && s.Sources[0].Revision == id
	})
}

// watchFor waits until a resource in Omni is as wanted.
func watchFor(t *testing.T, o *daemon.Omni, md *resource.Metadata, what string, condition func(resource.Resource) bool) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	// One that is not there is reported as destroyed, and satisfies nothing.
	_, err := o.State().WatchFor(ctx, md, state.WithEventTypes(state.Created, state.Updated), state.WithCondition(func(r resource.Resource) (bool, error) {
		return condition(r), nil
	}))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// sees waits until a daemon knows of a resource that somebody else made: on a busy machine its
// watch lags, and what it has not seen it tries to make.
func sees(t *testing.T, d *daemon.Daemon, typ resource.Type, id resource.ID) {
	t.Helper()

	changed := make(chan struct{}, 1)
	cancel := d.Snapshot.Subscribe(func(omni.Change) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer cancel()

	for timeout := time.After(patience); ; {
		if _, ok := d.Snapshot.Get(typ, id); ok {
			return
		}

		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%s %s is not seen", typ, id)
		}
	}
}

// hold makes the first matching call wait until release is called; hit is closed when it has arrived.
func hold(t *testing.T, o *daemon.Omni, match embedded.Match) (hit <-chan struct{}, release func()) {
	t.Helper()

	arrived, until := make(chan struct{}), make(chan struct{})
	release = gosync.OnceFunc(func() { close(until) })

	o.Faults().Add(embedded.Fault{Match: match, Times: 1, Until: until, Hit: func() { close(arrived) }})
	t.Cleanup(release)

	return arrived, release
}

// await waits for a channel.
func await(t *testing.T, what string, ch <-chan struct{}) {
	t.Helper()

	select {
	case <-ch:
	case <-time.After(patience):
		t.Fatalf("%s: it did not happen", what)
	}
}

// edit changes a resource behind everybody's back.
func edit(t *testing.T, o *daemon.Omni, md *resource.Metadata, change func(resource.Resource)) {
	t.Helper()

	if _, err := o.State().UpdateWithConflicts(t.Context(), md, func(r resource.Resource) error {
		change(r)

		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func lock(t *testing.T, o *daemon.Omni, name string) {
	t.Helper()

	edit(t, o, omnires.NewCluster(name).Metadata(), func(r resource.Resource) { r.Metadata().Annotations().Set(omnires.ClusterLocked, "") })
}

func unlock(t *testing.T, o *daemon.Omni, name string) {
	t.Helper()

	edit(t, o, omnires.NewCluster(name).Metadata(), func(r resource.Resource) { r.Metadata().Annotations().Delete(omnires.ClusterLocked) })
}

// text returns a file.
func text(format string, args ...any) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(fmt.Sprintf(format, args...))}
}

// workers appends a workers document to a template.
func workers(file *fstest.MapFile, name string, machines ...string) *fstest.MapFile {
	return text("%s---\nkind: Workers\nname: %s\nmachines: [%s]\n", file.Data, name, strings.Join(machines, ", "))
}

// patched returns the template of a cluster with inline patches, by name.
func patched(name string, machine string, patches ...[2]string) *fstest.MapFile {
	body := fmt.Sprintf("kind: Cluster\nname: %s\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.12.0}\n", name)

	if len(patches) > 0 {
		body += "patches:\n"
	}

	for _, p := range patches {
		body += fmt.Sprintf("  - idOverride: %s\n    inline: {machine: {env: {X: %q}}}\n", p[0], p[1])
	}

	return text("%s---\nkind: ControlPlane\nmachines: [%s]\n", body, machine)
}

// class returns the manifest of a MachineClass.
func class(id, size string) *fstest.MapFile {
	return text("metadata: {namespace: default, type: MachineClasses.omni.sidero.dev, id: %s}\nspec:\n  matchlabels: [\"size = %s\"]\n", id, size)
}

// ofClass returns the template of a cluster whose machines are chosen by a class.
func ofClass(name, class string) *fstest.MapFile {
	return text("kind: Cluster\nname: %s\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.12.0}\n---\nkind: ControlPlane\nmachineClass: {name: %s, size: 1}\n", name, class)
}

func target(s sync.Status, name string) *sync.TargetStatus {
	for i := range s.Targets {
		if s.Targets[i].Target == name {
			return &s.Targets[i]
		}
	}

	return &sync.TargetStatus{}
}

// count counts writes that begin with a prefix.
func count(writes []string, prefix string) int {
	n := 0

	for _, w := range writes {
		if strings.HasPrefix(w, prefix) {
			n++
		}
	}

	return n
}

func unavailable(verb string, typ resource.Type) embedded.Fault {
	return embedded.Fault{Match: embedded.Match{Verb: verb, Type: typ}, Code: codes.Unavailable}
}

// noRelist keeps the safety nets of the snapshot from hiding what the engine misses.
func noRelist(_ *sync.Config, s *omni.SnapshotConfig) { s.Relist = time.Hour }

// destroyed makes a WatchFor wait for the end of a resource.
func destroyed(c *state.WatchForCondition) error { return state.WithEventTypes(state.Destroyed)(c) }
