package api

import (
	"context"
	"fmt"
	"slices"

	"connectrpc.com/connect"
	health "google.golang.org/grpc/health/grpc_health_v1"
)

const healthService = "grpc.health.v1.Health"

// handleHealth serves the health protocol of gRPC. SERVING says that the API answers; how
// the clusters are is the status' business.
func (h *Handler) handleHealth(opts ...connect.HandlerOption) {
	const check, watch = "/" + healthService + "/Check", "/" + healthService + "/Watch"

	h.mux.Handle(check, connect.NewUnaryHandler(check, h.checkHealth, opts...))
	h.mux.Handle(watch, connect.NewServerStreamHandler(watch, h.watchHealth, opts...))
}

func (h *Handler) checkHealth(_ context.Context, req *connect.Request[health.HealthCheckRequest]) (*connect.Response[health.HealthCheckResponse], error) {
	if !serves(req.Msg.GetService()) {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no service %q", printable(req.Msg.GetService())))
	}

	return connect.NewResponse(&health.HealthCheckResponse{Status: h.serving()}), nil
}

func (h *Handler) watchHealth(ctx context.Context, req *connect.Request[health.HealthCheckRequest], stream *connect.ServerStream[health.HealthCheckResponse]) error {
	release, err := h.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()

	status := h.serving()
	if !serves(req.Msg.GetService()) {
		status = health.HealthCheckResponse_SERVICE_UNKNOWN
	}

	if err := stream.Send(&health.HealthCheckResponse{Status: status}); err != nil {
		return err
	}

	select {
	case <-ctx.Done():
		return ended(ctx)
	case <-h.stopping:
		return stream.Send(&health.HealthCheckResponse{Status: health.HealthCheckResponse_NOT_SERVING})
	}
}

// serves reports whether there is a service; "" stands for all of them.
func serves(service string) bool { return service == "" || slices.Contains(services, service) }

func (h *Handler) serving() health.HealthCheckResponse_ServingStatus {
	select {
	case <-h.stopping:
		return health.HealthCheckResponse_NOT_SERVING
	default:
		return health.HealthCheckResponse_SERVING
	}
}
