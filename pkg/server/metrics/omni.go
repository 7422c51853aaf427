package metrics

import (
	"context"
	"errors"
	"io"
	"strings"
	gosync "sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// DialOptions are the hook for omni.ConnConfig.DialOptions: they count every call to Omni.
// The method is a name in our own code, so their number is bounded.
func (m *Metrics) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(m.unary), grpc.WithChainStreamInterceptor(m.stream)}
}

func (m *Metrics) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	call := m.rpc(method)
	err := invoke(ctx, method, req, reply, cc, opts...)
	call.end(err)

	return err
}

func (m *Metrics) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	call := m.rpc(method)

	stream, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		call.end(err)

		return nil, err
	}

	// Whoever wants no more of a stream ends its context and may never receive again.
	stop := context.AfterFunc(ctx, func() { call.end(status.FromContextError(ctx.Err()).Err()) })

	return &countedStream{stream, call, stop}, nil
}

// rpc is one call to Omni.
type rpc struct {
	m      *Metrics
	method string
	began  time.Time

	answer, finish gosync.Once
}

func (m *Metrics) rpc(method string) *rpc {
	method = strings.TrimPrefix(method, "/")
	m.rpcsOpen.WithLabelValues(method).Inc()

	return &rpc{m: m, method: method, began: time.Now()}
}

// answered notes the first sign of Omni.
func (r *rpc) answered() {
	r.answer.Do(func() { r.m.rpcLatency.WithLabelValues(r.method).Observe(time.Since(r.began).Seconds()) })
}

// end notes the end of the call; the first one counts.
func (r *rpc) end(err error) {
	r.finish.Do(func() {
		r.answered()
		r.m.rpcsOpen.WithLabelValues(r.method).Dec()
		r.m.rpcs.WithLabelValues(r.method, status.Code(err).String()).Inc()
	})
}

type countedStream struct {
	grpc.ClientStream

	call *rpc
	stop func() bool
}

// RecvMsg implements grpc.ClientStream.
func (s *countedStream) RecvMsg(msg any) error {
	err := s.ClientStream.RecvMsg(msg)

	switch {
	case err == nil:
		s.call.answered()
	case errors.Is(err, io.EOF):
		s.call.end(nil)
		s.stop()
	default:
		s.call.end(err)
		s.stop()
	}

	return err
}
