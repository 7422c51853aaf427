package omni

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc"
)

// site serves a lab over TCP on loopback and can cut its connections or go away.
type site struct {
	lab     *lab
	address string
	server  *grpc.Server

	mu    sync.Mutex
	conns []net.Conn
}

// up serves, at the same address each time.
func (s *site) up(t *testing.T) {
	t.Helper()

	if s.address == "" {
		s.address = "127.0.0.1:0"
	}

	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}

	s.address = listener.Addr().String()
	s.server = grpc.NewServer()
	v1alpha1.RegisterStateServer(s.server, server.NewState(s.lab))

	go s.server.Serve(recording{listener, s}) //nolint:errcheck // ends with down
}

func (s *site) down() { s.server.Stop() }

func (s *site) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, conn := range s.conns {
		conn.Close()
	}

	s.conns = nil
}

type recording struct {
	net.Listener
	site *site
}

func (r recording) Accept() (net.Conn, error) {
	conn, err := r.Listener.Accept()
	if err == nil {
		r.site.mu.Lock()
		r.site.conns = append(r.site.conns, conn)
		r.site.mu.Unlock()
	}

	return conn, err
}

// TestSnapshotOverGRPC changes the server at random, by ourselves and behind our back, with faults of a real connection
// in between, and looks at everything after each.
func TestSnapshotOverGRPC(t *testing.T) {
	t.Parallel()

	place := &site{lab: newLab()}
	place.up(t)

	key, _ := newKey(t, time.Hour)

	conn, err := Dial(ConnConfig{Endpoint: "http://" + place.address, ServiceAccountKey: key})
	if err != nil {
		t.Fatal(err)
	}

	s := NewSnapshot(SnapshotConfig{State: conn.State(), Kinds: labKinds, Tag: patchPhase})
	f := follow(s, labKinds)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)

	go func() { done <- s.Run(ctx) }()

	if err := s.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}

	w := &writer{T: t, lab: place.lab, state: conn.State(), snapshot: s, random: rand.New(rand.NewPCG(1, 2))}

	var copied []resource.Resource

	for _, fault := range []struct {
		name  string
		begin func()
		end   func()
	}{
		{"none", func() {}, func() {}},
		{"cut", place.cut, func() {}},
		{"restart", place.down, func() { place.up(t) }},
		{"errored", func() { place.lab.breakStreams(errors.New("compacted")) }, func() {}},
		{
			"bookmark invalid",
			func() { place.lab.set(func() { place.lab.resumes = inmem.ErrInvalidWatchBookmark }); place.cut() },
			func() { place.lab.set(func() { place.lab.resumes = nil }) },
		},
		{
			"restored",
			func() {
				place.down()
				place.lab.restore(t.Context(), t, labKinds, copied)
			},
			func() { place.up(t) },
		},
		{"cut again", place.cut, func() {}},
	} {
		for range 50 {
			w.step()
		}

		fault.begin()

		for range 50 {
			w.behind()
		}

		fault.end()

		for range 50 {
			w.step()
		}

		w.settle(f)
		same(t, s, f, place.lab.contents(t, labKinds))

		if t.Failed() {
			t.Fatalf("after %s", fault.name)
		}

		copied = place.lab.contents(t, labKinds)
	}

	cancel()

	if err := <-done; err != nil {
		t.Error(err)
	}

	conn.Close()
	place.down()

	if leaked := goroutines("pkg/omni.(*", "cosi-project/runtime/pkg/state/protobuf/client"); strings.Contains(leaked, "TestSnapshotOverGRPC") {
		t.Errorf("goroutines are left:\n%s", leaked)
	}
}

func goroutines(of ...string) string {
	buf := make([]byte, 1<<20)

	var left []string

	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		for _, name := range of {
			if strings.Contains(stack, name) {
				left = append(left, stack)

				break
			}
		}
	}

	return strings.Join(left, "\n\n")
}

// writer changes things at random.
type writer struct {
	*testing.T
	lab      *lab
	state    state.State
	snapshot *Snapshot
	random   *rand.Rand
	settled  int
}

func (w *writer) pick() resource.Resource {
	cluster := fmt.Sprint("c", w.random.IntN(3))
	id := fmt.Sprint("r", w.random.IntN(6))

	switch w.random.IntN(4) {
	case 0:
		return newCluster(cluster)
	case 1:
		return newNode(id, cluster)
	case 2:
		return omni.NewKernelArgs(id)
	default:
		return newPatch(id, cluster, "x")
	}
}

// behind changes something without the snapshot's knowledge.
func (w *writer) behind() {
	r, st := w.pick(), w.lab.current()

	switch w.random.IntN(4) {
	case 0:
		w.check(st.Create(w.Context(), r))
	case 1:
		w.check(st.Destroy(w.Context(), r.Metadata()))
	default:
		_, err := st.UpdateWithConflicts(w.Context(), r.Metadata(), func(r resource.Resource) error {
			r.Metadata().Annotations().Set("behind", fmt.Sprint(w.random.Int()))

			return nil
		}, state.WithExpectedPhaseAny())
		w.check(err)
	}
}

// step is behind or what the program does: write what the snapshot holds, then tell the snapshot.
func (w *writer) step() {
	r := w.pick()
	held, ok := w.snapshot.Get(r.Metadata().Type(), r.Metadata().ID())

	switch w.random.IntN(5) {
	case 0:
		err := w.state.Create(w.Context(), r)
		if w.check(err) {
			w.snapshot.Put(r)
		}
	case 1, 2:
		if !ok {
			return
		}

		r = held.DeepCopy()
		r.Metadata().Annotations().Set("own", fmt.Sprint(w.random.Int()))

		if w.check(w.state.Update(w.Context(), r)) {
			w.snapshot.Put(r)
		}
	case 3:
		if !ok {
			return
		}

		ready, err := w.state.Teardown(w.Context(), held.Metadata())
		if !w.check(err) {
			return
		}

		w.snapshot.TearingDown(held.Metadata())

		if ready && w.check(w.state.Destroy(w.Context(), held.Metadata())) {
			w.snapshot.Removed(held.Metadata())
		}
	default:
		w.behind()
	}
}

// check passes over what others' changes and the faults make of a write.
func (w *writer) check(err error) bool {
	w.Helper()

	if Rejected(err) && !state.IsPhaseConflictError(err) {
		w.Fatalf("%v", err)
	}

	return err == nil
}

// settle changes one resource of each kind behind the snapshot and waits until the follower has seen it. Since a watch is
// in order, everything before it shows as well. Twice, because a bootstrap is told in no order.
func (w *writer) settle(f *follower) {
	w.Helper()

	for range 2 {
		w.settled++

		for _, r := range []resource.Resource{newCluster("mark"), newPatch("mark", "", ""), newNode("mark", "mark"), omni.NewKernelArgs("mark")} {
			w.mark(f, r, fmt.Sprint(w.settled))
		}
	}
}

func (w *writer) mark(f *follower, r resource.Resource, value string) {
	w.Helper()

	err := w.lab.current().Modify(w.Context(), r, func(r resource.Resource) error {
		r.Metadata().Annotations().Set("settled", value)

		return nil
	})
	if err != nil {
		w.Fatal(err)
	}

	timeout := time.After(30 * time.Second)

	for {
		f.mu.Lock()
		told, seen := f.told, f.seen[ref{r.Metadata().Type(), "mark"}]
		f.mu.Unlock()

		if seen != nil {
			if at, _ := seen.Metadata().Annotations().Get("settled"); at == value {
				return
			}
		}

		select {
		case <-told:
		case <-timeout:
			w.Fatalf("%s did not settle: %v, %+v", r.Metadata().Type(), w.snapshot.Err(), w.snapshot.Stats())
		}
	}
}
