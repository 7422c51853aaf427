// Package api serves what the daemon knows, and takes what it is told to do, over gRPC,
// gRPC-Web and JSON.
//
//	source ──▶ template ──▶ render ──▶ diff ──▶ sync ──▶ omni
//	                                             ▲│
//	              Reconcile, Confirm, Suspend ───┘└──▶ status, access ──▶ api
//
// It stands beside the flow. The messages are described in api/omnisyncd/v1. Who somebody
// is was found out before: by the listener for a unix socket (package server), by a token
// for the network (package auth). What they may is asked here, in every procedure, and every
// use of OperatorService and AccessService becomes a line of the audit log.
//
// Everything is a POST: nothing changes by a GET, and nothing is allowed across origins.
package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	gosync "sync"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/api/omnisyncd/v1/omnisyncdv1connect"
	"github.com/omni-syncd/omni-syncd/pkg/history"
	"github.com/omni-syncd/omni-syncd/pkg/server"
	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// Bounds (G12). Those that clients notice are written in api/omnisyncd/v1, too.
const (
	// MaxRequest is how large a request may be, in bytes, also after it was uncompressed.
	MaxRequest = 64 << 10
	// MaxStreams is how many streams and waiting calls there are at the same time over the
	// network, and as many again over the socket; MaxCallerStreams is how many of them one
	// caller over the network has.
	MaxStreams       = 64
	MaxCallerStreams = 8
	// readTimeout is how long a request may take to arrive.
	readTimeout = 10 * time.Second
	// writeTimeout is how long a client may take to read what is sent to it.
	writeTimeout = 30 * time.Second
	// watchEvery is the least time between two messages of a watch.
	watchEvery = 100 * time.Millisecond
	// lookEvery is the least time between two looks of a call that waits.
	lookEvery = 20 * time.Millisecond
	// maxWait is how long a call waits at most.
	maxWait = time.Hour
	// maxReflection is how long a reflection stream may last.
	maxReflection = time.Minute
	// envelope is what a protocol may add to a message.
	envelope = 1 << 10
)

// Engine is what the API shows and drives; see [sync.Engine].
type Engine interface {
	Changes(since uint64) (sync.Changes, <-chan struct{})
	Evidence(key sync.Key) sync.Evidence
	Poke(source string) (looked func() bool)
	Reconcile(key sync.Key) error
	Confirm(ctx context.Context, source, name, by string) (sync.Key, error)
	Suspend(s sync.Suspension) error
	Resume(source string, target *string) error
	Suspensions() []sync.Suspension
	Leadership() (sync.Leadership, <-chan struct{})
	Part() (shard sync.Shard, replicated bool)
}

// History is what was applied; see [history.Store].
type History interface {
	Of(source, cluster string, limit int) ([]history.Entry, error)
}

// Config says what to serve.
type Config struct {
	Engine Engine
	// History is nil if none is kept.
	History History
	// Access is nil if none is handed out.
	Access Access
	// Interceptors see every call, the first one first.
	Interceptors []connect.Interceptor
	// MaxStreams, ReadTimeout and WriteTimeout are bounds. Zero: 64, 10 s, 30 s.
	MaxStreams                int
	ReadTimeout, WriteTimeout time.Duration
	// Logger gets the audit lines and may be nil.
	Logger *zap.Logger
}

// Handler answers every request of the API.
type Handler struct {
	Config

	mux      *http.ServeMux
	places   *places
	foreseen foreseen
	stopping chan struct{}
	stop     func()
	errors   *connect.ErrorWriter
}

// New returns the handler. Who is done with it calls Close.
func New(cfg Config) *Handler {
	cfg.MaxStreams = cmp.Or(cfg.MaxStreams, MaxStreams)
	cfg.ReadTimeout = cmp.Or(cfg.ReadTimeout, readTimeout)
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, writeTimeout)
	cfg.Logger = cmp.Or(cfg.Logger, zap.NewNop())

	h := &Handler{
		Config: cfg, mux: http.NewServeMux(), places: newPlaces(cfg.MaxStreams), stopping: make(chan struct{}), errors: connect.NewErrorWriter(),
	}
	h.stop = gosync.OnceFunc(func() { close(h.stopping) })

	opts := []connect.HandlerOption{
		connect.WithInterceptors(cfg.Interceptors...), connect.WithReadMaxBytes(MaxRequest), connect.WithCompressMinBytes(1 << 10),
		connect.WithCodec(strictJSON{"json"}), connect.WithCodec(strictJSON{"json; charset=utf-8"}),
	}

	h.mux.Handle(omnisyncdv1connect.NewStatusServiceHandler(&statusService{h}, opts...))
	h.mux.Handle(omnisyncdv1connect.NewOperatorServiceHandler(&operatorService{h}, opts...))
	h.mux.Handle(omnisyncdv1connect.NewAccessServiceHandler(&accessService{h}, opts...))
	h.handleHealth(opts...)

	reflector := grpcreflect.NewStaticReflector(services...)
	h.mux.Handle(grpcreflect.NewHandlerV1(reflector, opts...))
	h.mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, opts...))

	return h
}

// services are what there is to ask for.
var services = []string{omnisyncdv1connect.StatusServiceName, omnisyncdv1connect.OperatorServiceName, omnisyncdv1connect.AccessServiceName, healthService}

// Close ends streams and waiting calls, so that a server that stops need not wait for them.
func (h *Handler) Close() { h.stop() }

// ServeHTTP implements http.Handler. Nobody holds resources by being slow: a request has
// to be there in time, as a whole, before it is looked at, and an answer has to be read.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = identified(r)
	control := http.NewResponseController(w)
	writer := &boundedWriter{ResponseWriter: w, control: control, timeout: h.WriteTimeout}

	writer.disarm()
	defer writer.arm() // what is still buffered is sent after this

	// Reflection is a conversation, so its time is bounded as a whole.
	if strings.HasPrefix(r.URL.Path, "/grpc.reflection.") {
		release, err := h.acquire(r.Context())
		if err != nil {
			h.refuse(writer, r, err)

			return
		}
		defer release()

		_ = control.SetReadDeadline(time.Now().Add(maxReflection))

		h.mux.ServeHTTP(writer, r)

		return
	}

	_ = control.SetReadDeadline(time.Now().Add(h.ReadTimeout))

	// What is too large is left to the protocol, which says so in its own words.
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxRequest+envelope))

	// Of a request that did not end the server reads some more afterwards: the deadline
	// bounds that, too.
	if err == nil && len(body) < MaxRequest+envelope {
		_ = control.SetReadDeadline(time.Time{})
	}

	defer h.logged(r, time.Now())

	request, done := h.audited(r)
	defer done()

	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		h.refuse(writer, r, connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("the request did not arrive within %s", h.ReadTimeout)))
	case err != nil:
		h.refuse(writer, r, connect.NewError(connect.CodeInvalidArgument, errors.New("the request was cut off")))
	default:
		request.Body = io.NopCloser(bytes.NewReader(body))
		h.mux.ServeHTTP(writer, request)
	}
}

// refuse answers a request that no service sees. The connection is not used again: the
// rest of the request may still be on its way.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}

	if !h.errors.IsSupported(r) {
		http.Error(w, err.Error(), http.StatusBadRequest)

		return
	}

	_ = h.errors.Write(w, r, err) // who does not read it misses it
}

// acquire takes one of the places for streams and waiting calls, until release is called.
// Those who come over the network have places of their own, and one caller some of them: so
// nobody takes them from everybody, and the daemon's own user always finds one.
func (h *Handler) acquire(ctx context.Context) (release func(), err error) {
	_, local := server.PeerOf(ctx)
	caller, _ := auth.Of(ctx)
	name := ""

	if caller != nil {
		name = caller.Name
	}

	return h.places.take(local, name)
}

// await waits until ch delivers or is closed. The error says that the request ended, or
// that the daemon stops.
func await[T any](ctx context.Context, stopping <-chan struct{}, ch <-chan T) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	case <-stopping:
		return errStopping()
	}
}

func errStopping() error {
	return connect.NewError(connect.CodeUnavailable, errors.New("the daemon stops"))
}

// ended returns why a request ended: its token may have expired.
func ended(ctx context.Context) error {
	var expired *auth.ExpiredError
	if errors.As(context.Cause(ctx), &expired) {
		return auth.ConnectError(expired)
	}

	return ctx.Err()
}

// boundedWriter gives every write a deadline: a client that stops reading ends its
// request. Between two writes there is none, so that a stream may be quiet for long.
type boundedWriter struct {
	http.ResponseWriter

	control *http.ResponseController
	timeout time.Duration
}

// Write implements http.ResponseWriter.
func (w *boundedWriter) Write(p []byte) (int, error) {
	w.arm()
	defer w.disarm()

	return w.ResponseWriter.Write(p)
}

// FlushError is what http.ResponseController calls.
func (w *boundedWriter) FlushError() error {
	w.arm()
	defer w.disarm()

	return w.control.Flush()
}

// Flush implements http.Flusher.
func (w *boundedWriter) Flush() { _ = w.FlushError() }

// Unwrap is for http.ResponseController.
func (w *boundedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A writer without deadlines is one of a test.
func (w *boundedWriter) arm()    { _ = w.control.SetWriteDeadline(time.Now().Add(w.timeout)) }
func (w *boundedWriter) disarm() { _ = w.control.SetWriteDeadline(time.Time{}) }
