package chaos

import (
	"cmp"
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

func netLatency(_ context.Context, w *world, s step) string {
	d := time.Duration(1+s.a%150) * time.Millisecond
	w.proxy.setLatency(d)
	w.struck("latency", 1)

	return d.String()
}

func netReset(_ context.Context, w *world, _ step) string {
	w.blindFor(recovery)

	n := w.proxy.reset()
	w.struck("connection reset", n)

	return fmt.Sprint(n, " connections")
}

func netHalfOpen(_ context.Context, w *world, s step) string {
	w.blindUntilHealed()

	w.dead = true
	up, down := s.a%3 != 0, s.a%3 != 1
	n := w.proxy.half(up, down)
	w.struck("connection half open", n)

	return fmt.Sprintf("up %v, down %v: %d connections", up, down, n)
}

func netHole(_ context.Context, w *world, _ step) string {
	w.blindUntilHealed()
	w.dead = true
	w.proxy.setHole(true)
	w.struck("connection swallowed", w.proxy.half(true, true))

	return ""
}

func netRefuse(_ context.Context, w *world, _ step) string {
	w.blindUntilHealed()
	w.proxy.refuse()
	w.struck("no listener", 1)

	return ""
}

// netHeal ends what the network does. A watch that Omni itself silenced stays so.
func netHeal(_ context.Context, w *world, _ step) string {
	w.blindFor(recovery)
	w.must(w.proxy.heal(false))

	return ""
}

// watched are the types whose watches faults strike; "" is all of them.
var watched = []resource.Type{"", omni.ClusterType, omni.ConfigPatchType, omni.MachineSetType, omni.MachineSetNodeType}

func (s step) match() embedded.Match { return embedded.Match{Type: watched[s.a%uint64(len(watched))]} }

func watchDrop(_ context.Context, w *world, s step) string {
	w.blindFor(recovery)

	n := w.omni.Faults().DropWatches(s.match())
	w.struck("watch dropped", n)

	return fmt.Sprintf("%d of %q", n, s.match().Type)
}

func watchError(_ context.Context, w *world, s step) string {
	w.blindFor(recovery)

	n := w.omni.Faults().FailWatches(s.match(), "compacted")
	w.struck("watch failed", n)

	return fmt.Sprintf("%d of %q", n, s.match().Type)
}

func watchSilence(_ context.Context, w *world, s step) string {
	w.blindUntilHealed()

	n := w.omni.Faults().SilenceWatches(s.match())
	w.struck("watch silenced", n)

	return fmt.Sprintf("%d of %q", n, s.match().Type)
}

// call draws a kind of write.
func (s step) call() embedded.Match {
	verbs := []string{embedded.VerbCreate, embedded.VerbUpdate, embedded.VerbTeardown, embedded.VerbDestroy}

	return embedded.Match{Verb: verbs[s.b%uint64(len(verbs))], Type: watched[s.a%uint64(len(watched))]}
}

func writeRefused(_ context.Context, w *world, s step) string {
	answers := []codes.Code{codes.InvalidArgument, codes.PermissionDenied, codes.Unavailable, codes.FailedPrecondition, codes.Aborted, codes.Internal}
	code := answers[s.c%uint64(len(answers))]
	w.omni.Faults().Add(embedded.Fault{Match: s.call(), Times: 1 + int(s.c%3), Code: code, Hit: w.hit("write refused: " + code.String())})

	return fmt.Sprintf("%v %s", s.call(), code)
}

func writeLost(_ context.Context, w *world, s step) string {
	w.omni.Faults().Add(embedded.Fault{Match: s.call(), Times: 1 + int(s.c%3), Code: codes.Unavailable, Applied: true, Hit: w.hit("answer lost")})

	return fmt.Sprint(s.call())
}

func writeSlow(_ context.Context, w *world, s step) string {
	d := time.Duration(s.c%500) * time.Millisecond
	w.omni.Faults().Add(embedded.Fault{Match: s.call(), Times: 3, Delay: d, Hit: w.hit("write slow")})

	return fmt.Sprintf("%v %s", s.call(), d)
}

func omniRestart(ctx context.Context, w *world, s step) string {
	w.blindFor(recovery)
	w.struck("omni restarted", 1)
	w.must(w.omni.Restart(ctx, embedded.RestartOptions{ForgetBookmarks: s.a%2 == 0}))

	return fmt.Sprintf("bookmarks forgotten: %v", s.a%2 == 0)
}

// omniUpgrade brings Omni to the next release, with what that does to the database.
func omniUpgrade(ctx context.Context, w *world, _ step) string {
	for _, release := range embedded.Releases() {
		if w.server().Has(release) {
			continue
		}

		version, err := embedded.VersionOf(release)
		w.must(err)
		w.blindFor(recovery)
		w.struck("omni upgraded", 1)
		w.must(w.omni.Restart(ctx, embedded.RestartOptions{Version: version}))
		w.version.Store(version)

		return version
	}

	return "it is the newest"
}

// server is which Omni it is now.
func (w *world) server() livestate.Server {
	version, _ := w.version.Load().(string)

	return livestate.Server(cmp.Or(version, embedded.Version))
}

// maxBackups bounds how many backups there are to restore from.
const maxBackups = 3

func omniBackup(ctx context.Context, w *world, _ step) string {
	backup, err := w.omni.Backup(ctx)
	w.must(err)

	w.backups = append(w.backups, backup)
	w.backups = w.backups[max(0, len(w.backups)-maxBackups):]

	return ""
}

// omniRestore puts the database back. Nobody has changed what changes by that.
func omniRestore(ctx context.Context, w *world, s step) string {
	w.restore(ctx, w.backups[s.a%uint64(len(w.backups))])
	w.struck("restored database", 1)

	return fmt.Sprintf("backup %d of %d", s.a%uint64(len(w.backups)), len(w.backups))
}

// restore puts a database back. What the daemon wrote just before cannot be judged by what
// is there afterwards, so it is looked at first, and the rest forgotten.
func (w *world) restore(ctx context.Context, backup *embedded.Backup) {
	w.blindFor(recovery)
	wait(ctx, shadowLag+look)
	w.check(time.Now().Add(-shadowLag))
	w.shadow.stop()
	w.must(w.omni.Restore(ctx, backup))
	w.must(w.shadow.start(context.WithoutCancel(ctx)))

	w.mu.Lock()
	defer w.mu.Unlock()

	w.writes = nil
}

// struck counts a fault that really met something: how many connections or watches.
func (w *world) struck(fault string, n int) {
	if n > 0 {
		w.tally("fault", fault)
	}
}

// hit returns what counts a fault each time that it strikes a call.
func (w *world) hit(fault string) func() { return func() { w.tally("fault", fault) } }

// kill ends the daemon at an instant that the seed draws; the supervisor starts it again.
func kill(ctx context.Context, w *world, s step) string {
	d := time.Duration(s.a%150) * time.Millisecond
	wait(ctx, d)
	w.daemon.signal(syscall.SIGKILL)
	w.struck("kill -9", 1)

	// Whatever the old connections were, the new daemon has its own.
	if !w.proxy.faulty() {
		w.sighted()
	}

	return "after " + d.String()
}
