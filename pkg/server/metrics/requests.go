package metrics

import (
	"context"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Webhooks counts the requests that next answers. What stands in a request's path is
// nobody's label: only the status is.
func (m *Metrics) Webhooks(next http.Handler) http.Handler {
	return promhttp.InstrumentHandlerCounter(m.webhooks, next)
}

// API is the interceptor that counts the calls of the daemon's API. Put it first, so that
// it also sees what other interceptors refuse. A procedure is one that the server has:
// what it does not know gets no interceptor.
func (m *Metrics) API() connect.Interceptor { return (*apiInterceptor)(m) }

type apiInterceptor Metrics

// WrapUnary implements connect.Interceptor.
func (m *apiInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		began, procedure := time.Now(), req.Spec().Procedure
		m.callsOpen.WithLabelValues(procedure).Inc()

		res, err := next(ctx, req)

		m.ended(procedure, err)
		m.callLatency.WithLabelValues(procedure).Observe(time.Since(began).Seconds())

		return res, err
	}
}

// WrapStreamingClient implements connect.Interceptor; it counts nothing.
func (m *apiInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (m *apiInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		procedure := conn.Spec().Procedure
		m.callsOpen.WithLabelValues(procedure).Inc()

		err := next(ctx, conn)

		m.ended(procedure, err)

		return err
	}
}

func (m *apiInterceptor) ended(procedure string, err error) {
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}

	m.callsOpen.WithLabelValues(procedure).Dec()
	m.calls.WithLabelValues(procedure, code).Inc()
}
