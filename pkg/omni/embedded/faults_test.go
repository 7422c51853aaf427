package embedded_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/state"
	cosiclient "github.com/cosi-project/runtime/pkg/state/protobuf/client"
	"github.com/siderolabs/go-api-signature/pkg/client/interceptor"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// unresumed connects with a client whose watches do not resume by themselves, as ours do not.
func unresumed(t *testing.T, s *embedded.Server) state.State {
	t.Helper()

	sign := interceptor.New(interceptor.Options{ServiceAccountBase64: s.ServiceAccountKey(embedded.AccountOperator)})

	conn, err := grpc.NewClient(s.Endpoint()[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(sign.Unary()), grpc.WithStreamInterceptor(sign.Stream()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	must(t, err)
	t.Cleanup(func() { conn.Close() }) //nolint:errcheck

	return state.WrapCore(cosiclient.NewAdapter(v1alpha1.NewStateClient(conn), cosiclient.WithDisableWatchRetry()))
}

func bootstrapped(t *testing.T, st state.State, opts ...state.WatchKindOption) (*watcher, state.Bookmark) {
	t.Helper()

	w := watchPatches(t, st, append(opts, state.WithBootstrapContents(true))...)

	for {
		if event := w.next(); event.Type == state.Bootstrapped {
			return w, event.Bookmark
		}
	}
}

// reconnect returns when the client has noticed that its connection was cut and has a new one.
func reconnect(t *testing.T, st state.State) {
	t.Helper()

	for ctx := testContext(t); code(getOf(omni.NewTalosVersion("1.13.5"))(ctx, st)) != codes.OK; {
		must(t, ctx.Err())
	}
}

func TestFaultNthCall(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	st, ctx := operator(t, s), testContext(t)

	s.Faults().Add(embedded.Fault{
		Match: embedded.Match{Verb: embedded.VerbCreate, Type: omni.ConfigPatchType},
		Skip:  1, Times: 1, Code: codes.Unavailable,
	})

	must(t, st.Create(ctx, newCluster("blue"))) // another type
	must(t, st.Create(ctx, newPatch("blue", "first")))
	wantCode(t, st.Create(ctx, newPatch("blue", "second")), codes.Unavailable)
	wantCode(t, getOf(newPatch("", "second"))(ctx, st), codes.NotFound)
	must(t, st.Create(ctx, newPatch("blue", "second")))

	remove := s.Faults().Add(embedded.Fault{Match: embedded.Match{ID: "first"}, Code: codes.ResourceExhausted, Message: "too much"})
	wantCode(t, getOf(newPatch("", "first"))(ctx, st), codes.ResourceExhausted)
	wantCode(t, getOf(newPatch("", "second"))(ctx, st), codes.OK)
	remove()
	wantCode(t, getOf(newPatch("", "first"))(ctx, st), codes.OK)

	s.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbList}, Code: codes.Internal})
	s.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbWatch}, Code: codes.Internal})
	s.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: "Talosconfig"}, Code: codes.Internal})
	wantCode(t, listOf(omni.ConfigPatchType)(ctx, st), codes.Internal)
	wantCode(t, st.WatchKind(ctx, patchKind, make(chan state.Event)), codes.Internal)

	_, err := dial(t, s, embedded.AccountReader).Management().Talosconfig(ctx)
	wantCode(t, err, codes.Internal)

	s.Faults().Clear()
	wantCode(t, listOf(omni.ConfigPatchType)(ctx, st), codes.OK)
}

func TestFaultLostAnswer(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	st, ctx := operator(t, s), testContext(t)

	s.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbCreate}, Times: 1, Code: codes.Unavailable, Applied: true})
	wantCode(t, st.Create(ctx, newPatch("blue", "a")), codes.Unavailable)
	wantCode(t, st.Create(ctx, newPatch("blue", "a")), codes.AlreadyExists)
}

func TestFaultLatencyAndHold(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	st, ctx := operator(t, s), testContext(t)

	remove := s.Faults().Add(embedded.Fault{Delay: 50 * time.Millisecond})

	begin := time.Now()
	wantCode(t, getOf(newCluster("nowhere"))(ctx, st), codes.NotFound)

	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("a delayed call took %s", took)
	}

	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()

	wantCode(t, getOf(newCluster("nowhere"))(short, st), codes.DeadlineExceeded)
	remove()

	// Two held creates are both in progress at once, and neither took effect.
	var release sync.WaitGroup

	gate, entered := make(chan struct{}), make(chan struct{}, 2)
	s.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbCreate}, Until: gate, Hit: func() { entered <- struct{}{} }})

	for _, id := range []string{"a", "b"} {
		release.Go(func() {
			if err := st.Create(ctx, newPatch("blue", id)); err != nil {
				t.Error(err)
			}
		})
	}

	receive(t, entered)
	receive(t, entered)

	if got := list(t, st, omni.ConfigPatchType); len(got) != 0 {
		t.Errorf("held calls took effect: %v", got)
	}

	close(gate)
	release.Wait()

	if got := list(t, st, omni.ConfigPatchType); len(got) != 2 {
		t.Errorf("released calls made %v", got)
	}
}

func TestFaultWatches(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	st, ctx := unresumed(t, s), testContext(t)
	patches := embedded.Match{Type: omni.ConfigPatchType}

	w, mark := bootstrapped(t, st)
	if n := s.Faults().Watches(embedded.Match{}); n != 1 {
		t.Errorf("%d watches are open, want 1", n)
	}

	if n := s.Faults().DropWatches(embedded.Match{Type: omni.ClusterType}); n != 0 {
		t.Errorf("%d watches of another type were dropped", n)
	}

	if n := s.Faults().DropWatches(patches); n != 1 {
		t.Fatalf("%d watches were dropped, want 1", n)
	}

	wantCode(t, w.expect(state.Errored, "").Error, codes.Unavailable)

	must(t, st.Create(ctx, newPatch("blue", "a")))

	w = watchPatches(t, st, state.WithKindStartFromBookmark(mark)) // a dropped watch can be resumed
	w.expect(state.Created, "a")

	if n := s.Faults().SilenceWatches(patches); n != 1 {
		t.Fatalf("%d watches were silenced, want 1", n)
	}

	other, _ := bootstrapped(t, st)
	w.silent(func() {
		must(t, st.Create(ctx, newPatch("blue", "b")))
		other.expect(state.Created, "b")
	})

	if n := s.Faults().FailWatches(patches, "compacted"); n != 2 {
		t.Fatalf("%d watches, want the dead and the living", n)
	}

	if event := other.expect(state.Errored, ""); event.Error.Error() != "compacted" {
		t.Errorf("the event says %v", event.Error)
	}

	third, _ := bootstrapped(t, st)
	other.silent(func() {
		must(t, st.Create(ctx, newPatch("blue", "c")))
		third.expect(state.Created, "c")
	})
}

func TestRestart(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	st, ctx := unresumed(t, s), testContext(t)

	must(t, st.Create(ctx, newPatch("blue", "a")))

	w, mark := bootstrapped(t, st)
	endpoint, down := s.Endpoint(), false

	must(t, s.Restart(ctx, embedded.RestartOptions{While: func() {
		down = true

		wantCode(t, getOf(newPatch("", "a"))(ctx, operator(t, s)), codes.Unavailable)
	}}))

	if !down || s.Endpoint() != endpoint {
		t.Errorf("restarted on %s, was %s; the hook ran: %t", s.Endpoint(), endpoint, down)
	}

	wantCode(t, w.expect(state.Errored, "").Error, codes.Unavailable)
	reconnect(t, st)
	wantCode(t, getOf(newPatch("", "a"))(ctx, st), codes.OK)

	must(t, st.Create(ctx, newPatch("blue", "b")))
	watchPatches(t, st, state.WithKindStartFromBookmark(mark)).expect(state.Created, "b")

	must(t, s.Restart(ctx, embedded.RestartOptions{ForgetBookmarks: true}))
	reconnect(t, st)

	err := st.WatchKindAggregated(ctx, patchKind, make(chan []state.Event), state.WithKindStartFromBookmark(mark))
	if !state.IsInvalidWatchBookmarkError(err) {
		t.Errorf("a bookmark survived a restart that forgets them: %v", err)
	}

	_, mark = bootstrapped(t, st)
	must(t, st.Create(ctx, newPatch("blue", "c")))
	watchPatches(t, st, state.WithKindStartFromBookmark(mark)).expect(state.Created, "c")
}

func TestRestore(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	st, ctx := unresumed(t, s), testContext(t)

	must(t, st.Create(ctx, newPatch("blue", "a")))
	must(t, st.Create(ctx, newPatch("blue", "b")))
	_, before := bootstrapped(t, st)

	backup, err := s.Backup(ctx)
	must(t, err)

	must(t, update(ctx, st, newPatch("", "a"), func(r *omni.ConfigPatch) { r.Metadata().Annotations().Set("x", "y") }))
	must(t, st.Destroy(ctx, newPatch("", "b").Metadata()))
	must(t, st.Create(ctx, newPatch("blue", "c")))
	must(t, st.Create(ctx, newCluster("blue"))) // of a kind that was empty

	_, after := bootstrapped(t, st)

	for range 2 { // a backup can be restored more than once
		must(t, s.Restore(ctx, backup))
		reconnect(t, st)

		if got := list(t, st, omni.ConfigPatchType); !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("restored %v", got)
		}

		if got := list(t, s.State(), omni.ClusterType); len(got) != 0 {
			t.Errorf("restored clusters %v", got)
		}

		res, err := st.Get(ctx, newPatch("", "a").Metadata())
		must(t, err)

		if v := res.Metadata().Version().Value(); v != 1 {
			t.Errorf("the version went back to %d, want 1", v)
		}

		// The bookmark of before the backup goes on, the one after it is from the future and gets nothing.
		resumed := watchPatches(t, st, state.WithKindStartFromBookmark(before))
		dead := watchPatches(t, st, state.WithKindStartFromBookmark(after))
		dead.silent(func() {
			must(t, st.Create(ctx, newPatch("blue", "d")))
			resumed.expect(state.Created, "d")
		})
	}
}

func TestCallsAndWrites(t *testing.T) {
	var (
		mu     sync.Mutex
		writes []embedded.Write
	)

	s := start(t, embedded.Config{NoControllers: true, OnWrite: func(w embedded.Write) {
		mu.Lock()
		defer mu.Unlock()

		writes = append(writes, w)
	}})
	st, ctx := operator(t, s), testContext(t)

	before := s.Calls()

	must(t, st.Create(ctx, newPatch("blue", "a")))
	wantCode(t, st.Create(ctx, newPatch("blue", "a")), codes.AlreadyExists)
	_, err := st.Teardown(ctx, newPatch("", "a").Metadata())
	must(t, err)
	must(t, st.Destroy(ctx, newPatch("", "a").Metadata()))
	must(t, st.WatchKind(ctx, patchKind, make(chan state.Event)))
	wantCode(t, dial(t, s, embedded.AccountReader).Omni().State().Create(ctx, newPatch("blue", "a")), codes.PermissionDenied)

	must(t, s.WaitCalls(ctx, func(c embedded.Calls) bool { return c[embedded.VerbWatch] == 1 }))
	must(t, s.WaitQuiet(ctx, 10*time.Millisecond))

	calls := s.Calls().Since(before)
	if calls.Writes() != 5 || calls.Total() != 6 || calls[embedded.VerbCreate] != 3 {
		t.Errorf("counted %v", calls)
	}

	patch := func(verb, identity string, code codes.Code) embedded.Write {
		return embedded.Write{Verb: verb, Namespace: "default", Type: omni.ConfigPatchType, ID: "a", Identity: identity, Code: code}
	}

	mu.Lock()
	defer mu.Unlock()

	if want := []embedded.Write{
		patch(embedded.VerbCreate, embedded.AccountOperator, codes.OK),
		patch(embedded.VerbCreate, embedded.AccountOperator, codes.AlreadyExists),
		patch(embedded.VerbTeardown, embedded.AccountOperator, codes.OK),
		patch(embedded.VerbDestroy, embedded.AccountOperator, codes.OK),
		patch(embedded.VerbCreate, embedded.AccountReader, codes.PermissionDenied),
	}; !slices.Equal(writes, want) {
		t.Errorf("told of %v, want %v", writes, want)
	}
}

func TestWaitQuietWaitsForCallsInProgress(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	st := operator(t, s)

	gate, entered := make(chan struct{}), make(chan struct{}, 1)
	s.Faults().Add(embedded.Fault{Times: 1, Until: gate, Hit: func() { entered <- struct{}{} }})

	done := make(chan error, 1)
	go func() { done <- st.Create(context.Background(), newPatch("blue", "a")) }()

	receive(t, entered)

	short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()

	if err := s.WaitQuiet(short, time.Millisecond); err == nil {
		t.Error("quiet with a call in progress")
	}

	close(gate)
	must(t, receive(t, done))
	must(t, s.WaitQuiet(testContext(t), time.Millisecond))
}
