package api

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
)

// Access hands out kubeconfigs and talosconfigs of managed clusters; see [access.Issuer].
type Access interface {
	Kubeconfig(ctx context.Context, req access.Request) ([]byte, error)
	Talosconfig(ctx context.Context, source, cluster string) ([]byte, error)
}

// accessService implements omnisyncdv1connect.AccessServiceHandler.
type accessService struct{ *Handler }

// GetKubeconfig returns a kubeconfig.
func (a *accessService) GetKubeconfig(ctx context.Context, req *connect.Request[v1.GetKubeconfigRequest]) (res *connect.Response[v1.GetKubeconfigResponse], err error) {
	wanted := access.Request{Source: req.Msg.GetSource(), Cluster: req.Msg.GetCluster(), GrantType: req.Msg.GetGrantType()}
	what := scope(wanted.Source, &wanted.Cluster)

	if account := req.Msg.GetServiceAccount(); account != nil {
		wanted.ServiceAccount = &access.ServiceAccount{User: account.GetUser(), Groups: account.GetGroups(), TTL: account.GetTtl().AsDuration()}
		what = append(what, zap.String("as", printable(account.GetUser())), zap.String("groups", printable(strings.Join(account.GetGroups(), ","))),
			zap.Duration("ttl", account.GetTtl().AsDuration()))
	}

	defer func() { note(ctx, err, what...) }()

	if err := a.permit(ctx, wanted.Source, wanted.Cluster); err != nil {
		return nil, err
	}

	data, err := a.Access.Kubeconfig(ctx, wanted)
	if err != nil {
		return nil, accessError(err, wanted.Cluster)
	}

	return unstored(connect.NewResponse(&v1.GetKubeconfigResponse{Kubeconfig: data})), nil
}

// GetTalosconfig returns a talosconfig.
func (a *accessService) GetTalosconfig(ctx context.Context, req *connect.Request[v1.GetTalosconfigRequest]) (res *connect.Response[v1.GetTalosconfigResponse], err error) {
	source, cluster := req.Msg.GetSource(), req.Msg.GetCluster()

	defer func() { note(ctx, err, scope(source, &cluster)...) }()

	if err := a.permit(ctx, source, cluster); err != nil {
		return nil, err
	}

	data, err := a.Access.Talosconfig(ctx, source, cluster)
	if err != nil {
		return nil, accessError(err, cluster)
	}

	return unstored(connect.NewResponse(&v1.GetTalosconfigResponse{Talosconfig: data})), nil
}

// permit returns an error unless the caller may have access to a cluster that has a name.
func (a *accessService) permit(ctx context.Context, source, cluster string) error {
	if cluster == "" {
		return invalid("name a cluster")
	}

	if err := permit(ctx, auth.Access, cluster); err != nil {
		return err
	}

	if a.Access == nil {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("this daemon hands out no access"))
	}

	return checkNames(source)
}

// unstored keeps what is between here and the client from storing an answer.
func unstored[T any](res *connect.Response[T]) *connect.Response[T] {
	res.Header().Set("Cache-Control", "no-store")

	return res
}

var accessCodes = map[access.Kind]connect.Code{
	access.Invalid: connect.CodeInvalidArgument, access.NotFound: connect.CodeNotFound, access.NotYet: connect.CodeFailedPrecondition,
	access.Denied: connect.CodePermissionDenied, access.Refused: connect.CodeFailedPrecondition, access.Unavailable: connect.CodeUnavailable,
}

var accessReasons = map[access.Kind]string{
	access.Invalid: "INVALID", access.NotFound: "NOT_MANAGED", access.NotYet: "NOT_THERE_YET",
	access.Denied: "NOT_ALLOWED_BY_CONFIGURATION", access.Refused: "REFUSED_BY_OMNI", access.Unavailable: "OMNI_UNAVAILABLE",
}

// accessError gives an error its code.
func accessError(err error, cluster string) error {
	code, ok := accessCodes[access.KindOf(err)]

	switch {
	case ok:
		return detailed(connect.NewError(code, err), accessReasons[access.KindOf(err)], map[string]string{"cluster": cluster})
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	default:
		return connect.NewError(connect.CodeInternal, err)
	}
}
