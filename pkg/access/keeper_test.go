package access_test

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	gosync "sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// told is a store that tells when it was used.
type told struct {
	access.Store

	events chan string
}

func (s told) Put(ctx context.Context, cluster string, configs access.Configs) error {
	err := s.Store.Put(ctx, cluster, configs)
	s.events <- map[bool]string{true: "put ", false: "no put "}[err == nil] + cluster

	return err
}

func (s told) Remove(ctx context.Context, cluster string) error {
	err := s.Store.Remove(ctx, cluster)
	s.events <- "remove " + cluster

	return err
}

// keep runs a keeper until stop is called.
func keep(t *testing.T, cfg access.KeeperConfig) (stop func()) {
	t.Helper()

	k, err := access.NewKeeper(cfg)
	must(t, err)

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- k.Run(ctx) }()

	stop = gosync.OnceFunc(func() {
		cancel()

		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)

	return stop
}

// await waits for events, in any order; others are skipped.
func await(t *testing.T, events <-chan string, want ...string) {
	t.Helper()

	missing := map[string]bool{}
	for _, event := range want {
		missing[event] = true
	}

	timeout := time.After(daemon.Timeout)

	for len(missing) > 0 {
		select {
		case event := <-events:
			delete(missing, event)
		case <-timeout:
			t.Fatalf("waiting for %v", slices.Collect(maps.Keys(missing)))
		}
	}
}

// The whole way: an Omni, an engine, a directory.
func TestKeeper(t *testing.T) {
	t.Parallel()

	o, path := daemon.StartOmni(t, embedded.Config{NoControllers: true}), private(t)
	log, recorded := logs()
	events := make(chan string, 1000)
	account := &access.ServiceAccount{User: "ci", Groups: []string{"deployers"}, TTL: time.Hour}

	begin := func(d *daemon.Daemon) (stop func()) {
		directory, err := access.OpenDirectory(path)
		must(t, err)

		issuer := access.NewIssuer(access.IssuerConfig{
			Omni: o.Conn, Clusters: d, Logger: log, ServiceAccounts: &access.ServiceAccountPolicy{MaxTTL: time.Hour, Users: []string{"ci"}, Groups: account.Groups},
		})
		halt := keep(t, access.KeeperConfig{
			Store: told{directory, events}, Issuer: issuer, Engine: d, Kubeconfig: true, Talosconfig: true, ServiceAccount: account, Logger: log,
			RetryMin: 10 * time.Millisecond, RetryMax: 10 * time.Millisecond,
		})

		return func() { halt(); must(t, directory.Close()) }
	}

	d := daemon.Start(t, o, nil)
	stop := begin(d)
	fleet := fstest.MapFS{"a.yaml": template("a", ""), "b.yaml": template("b", ""), "m.yaml": template("manual", "annotations: {omni-syncd/sync: manual}\n")}
	d.Apply(t, fleet)
	await(t, events, "put a", "put b")

	delete(fleet, "a.yaml")
	d.Apply(t, fleet)
	await(t, events, "remove a")

	found := files(t, path)
	same(t, "files", []string{"b.kubeconfig", "b.talosconfig"}, slices.Sorted(maps.Keys(found)))

	want, err := o.Conn.Management().WithCluster("b").Talosconfig(t.Context())
	must(t, err)
	same(t, "talosconfig", string(want), found["b.talosconfig"])

	tokens := []string{tokenOf(t, []byte(found["b.kubeconfig"]))}
	_, leads := contexts(t, filepath.Join(path, "b.kubeconfig"))
	same(t, "contexts", 1, len(leads))

	// It stops: everything stays.
	stop()
	d.Stop(t)
	same(t, "files after the end", found, files(t, path))

	// While it is away b goes and c comes. Git is unreadable at first: b stays.
	must(t, o.State().TeardownAndDestroy(t.Context(), clusterMetadata("b")))

	d = daemon.Start(t, o, nil)
	stop = begin(d)
	d.Fail(errFixture)
	d.Until(t, func(s sync.Status) bool { return s.Ready && s.Sources[0].Error != "" })
	same(t, "files while Git is unreadable", found, files(t, path))

	d.Feed(fstest.MapFS{"c.yaml": template("c", "")})
	await(t, events, "put c", "remove b")
	same(t, "files", []string{"c.kubeconfig", "c.talosconfig"}, slices.Sorted(maps.Keys(files(t, path))))

	// Omni refuses for a while: c stays, and d comes when it is well again.
	remove := o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: "Kubeconfig"}, Code: codes.Unavailable})
	d.Apply(t, fstest.MapFS{"c.yaml": template("c", ""), "d.yaml": template("d", "")})
	remove()
	await(t, events, "put d")

	tokens = append(tokens, tokenOf(t, []byte(files(t, path)["c.kubeconfig"])), tokenOf(t, []byte(files(t, path)["d.kubeconfig"])))

	stop()
	noSecret(t, recorded, tokens...)
}

func TestKeeper_Refresh(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *script, path string, _ *observer.ObservedLogs) {
		s.change(func() { s.clusters["a"] = nil })
		pass(time.Second)
		same(t, "at first", map[string]string{"a.kubeconfig": "a1"}, files(t, path))

		for range 100 { // whatever is told of it
			s.change(func() {})
			pass(time.Second)
		}

		same(t, "issued", 1, s.count("a"))
		pass(time.Hour)
		same(t, "after an hour", map[string]string{"a.kubeconfig": "a2"}, files(t, path))
	})
}

func TestKeeper_RefreshToken(t *testing.T) {
	account := &access.ServiceAccount{User: "ci", TTL: 10 * time.Minute}

	inBubble(t, account, func(t *testing.T, s *script, path string, _ *observer.ObservedLogs) {
		s.change(func() { s.clusters["a"] = nil })
		pass(time.Second)

		for i := range 10 {
			same(t, "file", map[string]string{"a.kubeconfig": sprint("a", i+1)}, files(t, path))
			before := s.count("a")
			pass(4 * time.Minute)
			same(t, "too early", before, s.count("a"))

			for range 62 { // at half of its life, or a little before
				if s.count("a") > before {
					break
				}

				pass(time.Second)
			}

			same(t, "at half of its life", before+1, s.count("a"))
		}

		if n := s.count("a"); n < 10 || n > 12 {
			t.Errorf("%d tokens were issued", n)
		}
	})
}

func TestKeeper_StaysWhileUnread(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *script, path string, recorded *observer.ObservedLogs) {
		s.change(func() { s.clusters["a"], s.clusters["b"] = nil, nil })
		pass(time.Second)

		want := files(t, path)
		same(t, "files", 2, len(want))

		s.change(func() {
			s.clusters["a"] = &sync.NotYetError{Cluster: "a", Reason: "Omni is away", Unread: true}
			s.clusters["b"] = &sync.NotYetError{Cluster: "b", Reason: "it is being destroyed"}
		})
		pass(24 * time.Hour)
		same(t, "a day later", want, files(t, path))

		// a was there all the time, b is another one now.
		s.change(func() { s.clusters["a"], s.clusters["b"] = nil, nil })
		pass(time.Second)
		same(t, "again", map[string]string{"a.kubeconfig": "a2", "b.kubeconfig": "b2"}, files(t, path))

		s.change(func() { s.clusters["a"] = &sync.NotYetError{Cluster: "a", Unread: true} })
		pass(time.Minute)
		s.change(func() { s.clusters["a"] = nil })
		pass(time.Second)
		same(t, "not fetched for a blink", 2, s.count("a"))

		s.change(func() { delete(s.clusters, "a") })
		pass(2 * time.Hour) // the script tells of no removal: it is seen at the next turn
		same(t, "gone", 1, len(files(t, path)))
		same(t, "told", 1, recorded.FilterMessage("removed the configs of a cluster that is not managed any more").Len())
	})
}

// One that fails, one that hangs and one whose place is taken do not hold up another.
func TestKeeper_Isolation(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *script, path string, recorded *observer.ObservedLogs) {
		write(t, filepath.Join(path, "taken.kubeconfig"), "mine")
		s.change(func() {
			s.clusters["stuck"], s.clusters["failing"], s.clusters["taken"] = nil, nil, nil
			s.stuck["stuck"], s.fails["failing"] = true, errors.New("no")
		})
		pass(time.Second)
		s.change(func() { s.clusters["good"] = nil })
		pass(time.Second)
		same(t, "files", map[string]string{"good.kubeconfig": "good1", "taken.kubeconfig": "mine"}, files(t, path))

		// It backs off, also if it is told of something all the time, and it is told once.
		for range 600 {
			s.change(func() {})
			pass(time.Second)
		}

		if n := s.count("failing"); n < 5 || n > 15 {
			t.Errorf("it was tried %d times", n)
		}

		same(t, "told", 2, recorded.FilterMessage("the configs of a cluster are not kept as they should be").Len())
		same(t, "errors", 1, recorded.FilterLevelExact(zap.ErrorLevel).Len())

		s.change(func() { delete(s.fails, "failing") })
		pass(10 * time.Minute)

		if _, ok := files(t, path)["failing.kubeconfig"]; !ok {
			t.Error("it stays away after it is well again")
		}
	})
}

// An odd name gets no files, and nothing else is disturbed.
func TestKeeper_OddName(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, s *script, path string, recorded *observer.ObservedLogs) {
		s.change(func() { s.clusters["../x"], s.clusters["a"], s.clusters[""] = nil, nil, nil })
		pass(time.Second)
		same(t, "files", map[string]string{"a.kubeconfig": "a1"}, files(t, path))
		same(t, "told", 1, recorded.FilterMessage("the configs of a cluster are not kept as they should be").Len())
		same(t, "fleet resources", 0, s.count(""))
	})
}

func TestNewKeeper(t *testing.T) {
	t.Parallel()

	_, err := access.NewKeeper(access.KeeperConfig{})
	fails(t, err, "neither")
	_, err = access.NewKeeper(access.KeeperConfig{Kubeconfig: true, ServiceAccount: &access.ServiceAccount{User: "a"}})
	fails(t, err, "ttl")
}

var _ access.Omni = (*omni.Conn)(nil)
