package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// listen makes a notify socket and returns what it was sent since the last call. It asks
// the kernel without waiting, so that it can stand in a bubble of synctest.
func listen(t *testing.T) (heard func() []string) {
	t.Helper()

	path := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", path)

	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}

	file, err := conn.File()
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _, _ = conn.Close(), file.Close() })

	return func() (messages []string) {
		buffer := make([]byte, 8192)

		for {
			n, _, err := syscall.Recvfrom(int(file.Fd()), buffer, syscall.MSG_DONTWAIT)
			if err != nil {
				return messages
			}

			messages = append(messages, string(buffer[:n]))
		}
	}
}

// stuck is a meter that keeps a worker for good, as a deadlock would, until released.
type stuck chan struct{}

func (s stuck) Reconciled(sync.Key, sync.Result, time.Duration) { <-s }
func (s stuck) Wrote(sync.Key, diff.Action, sync.Result, bool)  {}

// one is a source with one cluster; never is one that does not answer.
type one struct{ never bool }

func (s one) Fetch(context.Context) (source.Revision, error) {
	return source.Revision{}, errors.New("unused")
}

func (s one) Watch(ctx context.Context, deliver func(source.Revision, error)) error {
	if !s.never {
		deliver(source.Revision{ID: "one", FS: fstest.MapFS{"a.yaml": {Data: []byte("kind: Cluster\nname: a\nkubernetes: {version: v1.34.3}\ntalos: {version: v1.12.0}\n---\nkind: ControlPlane\nmachines: []\n")}}}, nil)
	}

	<-ctx.Done()

	return nil
}

// start runs an engine of one worker with a notifier, without Omni; read says that the
// snapshot is filled.
func start(t *testing.T, n *notifier, cfg sync.Config, src one, read bool) (stop func()) {
	t.Helper()

	cfg.Workers, cfg.State = 1, state.WrapCore(namespaced.NewState(inmem.Build))
	cfg.Snapshot = omni.NewSnapshot(sync.SnapshotConfig(cfg.State))
	cfg.Sources = []sync.SourceConfig{{Name: "s", Source: src, Scope: template.Scope{}}}
	engine := sync.New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 3)
	parts := []func(context.Context) error{engine.Run, func(ctx context.Context) error { return n.run(ctx, engine) }}

	if read {
		parts = append(parts, cfg.Snapshot.Run)
	}

	for _, run := range parts {
		go func() { done <- run(ctx) }()
	}

	return func() {
		cancel()

		for range parts {
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	}
}

// A reconcile loop that hangs starves the watchdog; one that has nothing to do does not.
func TestNotify_Watchdog(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprint("hangs ", hangs), func(t *testing.T) {
			heard := listen(t)

			synctest.Test(t, func(t *testing.T) {
				release := make(stuck)
				if !hangs {
					close(release)
				}

				n := &notifier{log: zap.NewNop(), watchdog: 20 * time.Second}
				stop := start(t, n, sync.Config{Meter: release}, one{}, true)

				fed := func(d time.Duration) (times int, all []string) {
					for range int(d / time.Second) { // the queue of a socket is short
						time.Sleep(time.Second)
						synctest.Wait()

						for _, message := range heard() {
							all = append(all, message)
							if message == "WATCHDOG=1" {
								times++
							}
						}
					}

					return times, all
				}

				if times, all := fed(50 * time.Second); times < 5 {
					t.Errorf("fed %d times in the first 50 s: %q", times, all)
				}

				_, at := fed(50 * time.Second)

				times, _ := fed(10 * time.Minute)
				if hangs && times != 0 || !hangs && times != 60 {
					t.Errorf("fed %d times in 10 minutes", times)
				}

				if told := strings.Contains(strings.Join(at, "\n"), "STATUS=the reconcile loop hangs"); told != hangs {
					t.Errorf("the status says that it hangs: %v; %q", told, at)
				}

				if hangs {
					close(release)

					if times, _ := fed(time.Minute); times < 4 {
						t.Errorf("it came back to life and was fed %d times", times)
					}
				}

				stop()
				heard()
			})
		})
	}
}

// What is outside may stay away: the start ends in time, and the line says what is missing.
func TestNotify_NeverReady(t *testing.T) {
	for name, test := range map[string]struct {
		src  one
		read bool
		want []string
	}{
		"Omni is not read": {one{}, false, []string{
			"EXTEND_TIMEOUT_USEC=150000000", "STATUS=waiting for ", "READY=1", "STATUS=waiting for ", "STOPPING=1\nSTATUS=stopping",
		}},
		"Git does not answer": {one{never: true}, true, []string{
			"EXTEND_TIMEOUT_USEC=150000000", "STATUS=waiting for the first answer of the source s", "READY=1",
			"STATUS=waiting for the first answer of the source s; no clusters", "STOPPING=1\nSTATUS=stopping",
		}},
		"all is well": {one{}, true, []string{"EXTEND_TIMEOUT_USEC=150000000", "READY=1", "STATUS=1 cluster: ", "STOPPING=1\nSTATUS=stopping"}},
	} {
		t.Run(name, func(t *testing.T) {
			heard := listen(t)

			synctest.Test(t, func(t *testing.T) {
				n := &notifier{log: zap.NewNop()}
				n.reloading() // nothing is told of what happens before the start is over
				n.reloaded(nil)

				stop := start(t, n, sync.Config{DryRun: true}, test.src, test.read)

				time.Sleep(startLimit - time.Second)
				synctest.Wait()

				all := heard()
				before := strings.Count(strings.Join(all, "\n"), "READY")

				time.Sleep(startLimit)
				synctest.Wait()
				stop()
				n.reloading()
				n.say("too late")

				all = append(all, heard()...)

				if early := name == "all is well"; early != (before == 1) {
					t.Errorf("READY %d times before %s", before, startLimit)
				}

				// What a status says while things settle is not what this is about.
				i := 0
				for _, message := range all {
					if i < len(test.want) && strings.HasPrefix(message, test.want[i]) {
						i++
					} else if !strings.HasPrefix(message, "STATUS=") {
						t.Errorf("unexpected %q", message)
					}
				}

				if i < len(test.want) {
					t.Errorf("%q is missing in %q", test.want[i], all)
				}
			})
		})
	}
}

// Reloads that overlap end once, and a request is answered with a time of its own.
func TestNotify_Reload(t *testing.T) {
	heard := listen(t)
	n := &notifier{log: zap.NewNop(), stage: serving}

	n.reloading()
	n.reloading()
	n.asked()
	n.reloaded(errors.New("no\nREADY=1"))
	n.reloaded(nil)
	n.stop()
	n.asked()

	all := heard()
	for i, message := range all {
		before, _, _ := strings.Cut(message, "\nMONOTONIC_USEC=")
		all[i] = before
	}

	want := []string{
		"RELOADING=1", "RELOADING=1", "READY=1", "STATUS=the configuration file is ignored: no READY=1;", "STATUS=",
		"STOPPING=1\nSTATUS=stopping; writes under way are waited for",
	}
	if d := cmp.Diff(want, all); d != "" {
		t.Error(d)
	}
}

// Without anybody who listens nothing is told and nothing is done; with a socket that is
// gone the daemon works.
func TestNotify_Nobody(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")

	n, err := newNotifier(zap.NewNop())
	if n != nil || err != nil {
		t.Fatal(n, err)
	}

	n.say("x")
	n.reloading()
	n.asked()
	n.reloaded(nil)

	stopped, stop := context.WithCancel(t.Context())
	stop()

	if err := n.run(stopped, nil); err != nil {
		t.Error(err)
	}

	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))

	if n, err = newNotifier(zap.NewNop()); err != nil {
		t.Fatal(err)
	}

	n.say("x")

	if !n.deaf {
		t.Error("a message went to nobody, unnoticed")
	}
}

func TestFleetLine(t *testing.T) {
	target := func(name string, s sync.SyncStatus, h sync.Health) sync.TargetStatus {
		return sync.TargetStatus{Key: sync.Key{Source: "s", Target: name}, Sync: s, Health: h}
	}
	suspended := target("a", sync.OutOfSync, sync.Healthy)
	suspended.Suspension = &sync.Suspension{}

	for want, status := range map[string]sync.Status{
		"no clusters":                    {},
		"1 cluster: 1 synced; 1 healthy": {Targets: []sync.TargetStatus{target("a", sync.Synced, sync.Healthy), target("", sync.Synced, "")}},
		"4 clusters: 2 synced, 1 out of sync, 1 unknown, 1 suspended; 2 healthy, 1 progressing, 1 missing; fleet resources of 1 source not synced; errors in 1 of 2 sources": {
			Sources: []sync.SourceStatus{{Error: "x"}, {}},
			Targets: []sync.TargetStatus{
				target("", sync.Unknown, ""), suspended, target("b", sync.Synced, sync.Healthy), target("c", sync.Synced, sync.Progressing), target("d", sync.Unknown, sync.Missing),
			},
		},
	} {
		if got := fleetLine(status); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// Nobody outside can write messages to systemd.
func TestBounded(t *testing.T) {
	for text, want := range map[string]string{
		"a\nREADY=1\r\nMAINPID=1\x00\x1b[31m\u2028b": "a READY=1 MAINPID=1 [31m b",
		"\xff\xfe":               "",
		strings.Repeat("ä", 100): strings.Repeat("ä", 10) + "…",
	} {
		if got := bounded(text, 21); len(text) > 50 && got != want || len(text) <= 50 && bounded(text, 100) != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
