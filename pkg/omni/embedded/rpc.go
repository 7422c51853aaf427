package embedded

import (
	"context"
	"path"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Write is one RPC that asked for a change.
type Write struct {
	Verb      string // VerbCreate, VerbUpdate, VerbTeardown, VerbDestroy or VerbTeardownAndDestroy
	Namespace resource.Namespace
	Type      resource.Type
	ID        resource.ID
	// Identity is the name of the account, "" if the request was not authenticated.
	Identity string
	// Code of the answer; a call that took effect and whose answer a fault swallowed has the fault's.
	Code codes.Code
}

// target returns what a unary request of the State service is about.
func target(req any) (namespace resource.Namespace, typ resource.Type, id resource.ID) {
	switch req := req.(type) {
	case *v1alpha1.CreateRequest:
		md := req.GetResource().GetMetadata()

		return md.GetNamespace(), md.GetType(), md.GetId()
	case *v1alpha1.UpdateRequest:
		md := req.GetNewResource().GetMetadata()

		return md.GetNamespace(), md.GetType(), md.GetId()
	case interface {
		GetNamespace() string
		GetType() string
		GetId() string
	}:
		return req.GetNamespace(), req.GetType(), req.GetId()
	default:
		return "", "", ""
	}
}

// verbOf returns what a call does. An update to the phase of a teardown is one, as in Omni's audit log.
func verbOf(req any, info *grpc.UnaryServerInfo) string {
	if update, ok := req.(*v1alpha1.UpdateRequest); ok && update.GetNewResource().GetMetadata().GetPhase() == resource.PhaseTearingDown.String() {
		return VerbTeardown
	}

	return path.Base(info.FullMethod)
}

// unary is everything that happens around a unary call: count, authenticate, fail on request, tell of writes.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	verb := verbOf(req, info)
	namespace, typ, id := target(req)
	identity := ""

	defer s.calls.begin(verb)()

	defer func() {
		if problem := recover(); problem != nil { // such as a message without metadata, which COSI's server does not expect
			s.logger.Error("a request made the server panic", zap.String("verb", verb), zap.Any("panic", problem), zap.Stack("stack"))

			resp, err = nil, status.Errorf(codes.Internal, "%s: the server failed on this request", verb)
		}

		switch verb {
		case VerbCreate, VerbUpdate, VerbTeardown, VerbDestroy, VerbTeardownAndDestroy:
			if s.config.OnWrite != nil {
				s.config.OnWrite(Write{Verb: verb, Namespace: namespace, Type: typ, ID: id, Identity: identity, Code: status.Code(err)})
			}
		}
	}()

	if ctx, err = s.accounts.authenticate(ctx, info.FullMethod); err != nil {
		return nil, err
	}

	identity = caller(ctx).Name

	err = s.faults.strike(ctx, Match{Verb: verb, Type: typ, ID: id}, func() error {
		resp, err = handler(ctx, req)

		return err
	})
	if err != nil {
		return nil, err
	}

	return resp, nil
}

// stream is unary for List and Watch; their faults are in stateServer, which sees the request.
func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	defer s.calls.begin(path.Base(info.FullMethod))()

	ctx, err := s.accounts.authenticate(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}

	return handler(srv, authenticatedStream{stream, ctx})
}

type authenticatedStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // a stream carries its context
}

// Context implements grpc.ServerStream.
func (s authenticatedStream) Context() context.Context { return s.ctx }
