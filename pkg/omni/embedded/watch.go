package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A bookmark is 8 bytes, as a real Omni's (there it is etcd's revision): an epoch in the upper 16 bits, a position in the rest.
// The epoch only serves to make bookmarks invalid with a restart; see RestartOptions.
const (
	bookmarkSize     = 8
	bookmarkPosition = 48
)

func encodeBookmark(epoch uint16, position int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(epoch)<<bookmarkPosition|uint64(position)) //nolint:gosec // never negative
}

func decodeBookmark(epoch uint16, bookmark []byte) (position int64, ok bool) {
	if len(bookmark) != bookmarkSize {
		return 0, false
	}

	value := binary.BigEndian.Uint64(bookmark)

	return int64(value & (1<<bookmarkPosition - 1)), uint16(value>>bookmarkPosition) == epoch //nolint:gosec // 48 bits
}

// stateServer is COSI's State service with a real Omni's watch semantics and with faults in its streams. Faults of the other calls
// are in the interceptor, which sees their requests.
type stateServer struct {
	*server.State

	store  *store
	faults *Faults
	epoch  uint16
}

// List implements v1alpha1.StateServer.
func (s *stateServer) List(req *v1alpha1.ListRequest, stream v1alpha1.State_ListServer) error {
	return s.faults.strike(stream.Context(), Match{Verb: VerbList, Type: req.GetType()}, func() error {
		return s.State.List(req, stream)
	})
}

// Watch implements v1alpha1.StateServer.
func (s *stateServer) Watch(req *v1alpha1.WatchRequest, stream v1alpha1.State_WatchServer) error {
	call := Match{Verb: VerbWatch, Type: req.GetType(), ID: req.GetId()}

	return s.faults.strike(stream.Context(), call, func() error { return s.watch(req, call, stream) })
}

func (s *stateServer) watch(req *v1alpha1.WatchRequest, call Match, stream v1alpha1.State_WatchServer) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)

	// Before anything about bookmarks: the branches below answer without the state that otherwise does the check.
	if err := watchAccess(ctx, req); err != nil {
		return err
	}

	if req.GetOptions().GetTailEvents() > 0 {
		return errors.New("failed to watch: tailEvents is not supported")
	}

	db := s.store.current.Load()
	w := &watchStream{
		State_WatchServer: stream, ctx: ctx, cancel: cancel, call: call,
		db: db, epoch: s.epoch, kind: kind{req.GetNamespace(), req.GetType()},
	}

	defer s.faults.addWatch(w)()

	err := s.run(req, w)

	if cause := context.Cause(ctx); stream.Context().Err() == nil && cause != nil {
		return cause
	}

	return err
}

func (s *stateServer) run(req *v1alpha1.WatchRequest, w *watchStream) error {
	bookmark := req.GetOptions().GetStartFromBookmark()
	if bookmark == nil {
		return s.State.Watch(req, w)
	}

	position, ok := decodeBookmark(w.epoch, bookmark)
	if !ok {
		return status.Error(codes.FailedPrecondition, "invalid watch bookmark")
	}

	newest, err := w.db.position(w.ctx, w.kind)
	if err != nil {
		return err
	}

	if position > newest { // etcd would wait for that revision to come
		return w.hang("")
	}

	if position < w.db.from.kinds[w.kind].position {
		return w.hang("watch bookmark: required revision has been compacted")
	}

	cookie, err := processCookie()
	if err != nil {
		return err
	}

	inner := uint64(w.db.inner(w.kind, position)) //nolint:gosec // as innerPosition reads it
	req.Options.StartFromBookmark = binary.BigEndian.AppendUint64(slices.Clone(cookie), inner)

	err = s.State.Watch(req, w)
	if status.Code(err) == codes.FailedPrecondition { // the history does not go back that far
		return w.hang("watch bookmark: required revision has been compacted")
	}

	return err
}

// watchStream is one open watch. It gives events our bookmarks and lets a test break it.
type watchStream struct {
	v1alpha1.State_WatchServer

	ctx    context.Context //nolint:containedctx // a stream carries its context
	cancel context.CancelCauseFunc
	call   Match
	db     *database
	kind   kind
	epoch  uint16

	mu     sync.Mutex // a gRPC stream has one sender at a time
	silent bool
}

// Context implements grpc.ServerStream.
func (w *watchStream) Context() context.Context { return w.ctx }

// Send implements v1alpha1.State_WatchServer.
func (w *watchStream) Send(response *v1alpha1.WatchResponse) error {
	for _, event := range response.GetEvent() {
		if event.GetBookmark() == nil {
			continue
		}

		inner, err := innerPosition(event.GetBookmark())
		if err != nil {
			return err
		}

		event.Bookmark = encodeBookmark(w.epoch, w.db.outer(w.kind, inner))
	}

	w.mu.Lock()
	defer w.mu.Unlock()

	if w.silent {
		return nil
	}

	return w.State_WatchServer.Send(response)
}

// hang accepts the watch, sends an Errored event if there is a message, and then nothing ever.
func (w *watchStream) hang(message string) error {
	if err := w.Send(&v1alpha1.WatchResponse{}); err != nil {
		return err
	}

	if message != "" {
		w.fail(message)
	}

	<-w.ctx.Done()

	return nil
}

func (w *watchStream) silence() {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.silent = true
}

func (w *watchStream) fail(message string) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if w.silent {
		return
	}

	w.silent = true

	err := w.State_WatchServer.Send(&v1alpha1.WatchResponse{Event: []*v1alpha1.Event{
		{EventType: v1alpha1.EventType_ERRORED, Error: &message},
	}})
	if err != nil {
		w.cancel(err)
	}
}
