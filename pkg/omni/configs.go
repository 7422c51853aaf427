package omni

import (
	"context"
	"errors"
	"fmt"

	"github.com/siderolabs/omni/client/pkg/client/management"
	"google.golang.org/grpc/codes"
)

// MaxConfig is how large a kubeconfig or talosconfig may be, in bytes. Omni's have some 2,000.
const MaxConfig = 1 << 20

// Kubeconfig returns a kubeconfig of a cluster, byte for byte as Omni gives it. Without options it holds no secret: who
// uses it logs in to Omni. With [management.WithServiceAccount] it holds a token that nobody can revoke. It is never a
// break-glass one, which would bypass Omni. That the cluster exists is for the caller to know: Omni hands out a login for
// one that does not.
//
// The error is one line and says what to do; [Transient] and [Rejected] tell whether trying again can help.
func (c *Conn) Kubeconfig(ctx context.Context, cluster string, opts ...management.KubeconfigOption) ([]byte, error) {
	if cluster == "" {
		return nil, errNoCluster
	}

	// Ours is the last word.
	opts = append(opts[:len(opts):len(opts)], management.WithBreakGlassKubeconfig(false))
	data, err := c.management.WithCluster(cluster).Kubeconfig(ctx, opts...)

	return checkConfig("kubeconfig", cluster, data, err)
}

// Talosconfig returns a talosconfig of a cluster, byte for byte as Omni gives it. It holds no secret: the identity in it
// is that of the connection's service account, and who uses it signs with a key of their own. Like [Conn.Kubeconfig] it
// never bypasses Omni.
func (c *Conn) Talosconfig(ctx context.Context, cluster string) ([]byte, error) {
	if cluster == "" {
		return nil, errNoCluster // Omni would return one for all of its machines
	}

	data, err := c.management.WithCluster(cluster).Talosconfig(ctx)

	return checkConfig("talosconfig", cluster, data, err)
}

var errNoCluster = errors.New("a kubeconfig or talosconfig is always that of a cluster: name it")

// checkConfig turns an answer that is of no use into an error.
func checkConfig(what, cluster string, data []byte, err error) ([]byte, error) {
	switch {
	case err != nil:
		text := fmt.Sprintf("no %s of the cluster %s from Omni: %s", what, cluster, Message(err))

		switch code(err) { //nolint:exhaustive // only these have a remedy
		case codes.PermissionDenied:
			text += "; the service account needs the role Reader, and Operator for a kubeconfig with a token"
		case codes.Unauthenticated:
			text += "; " + remedy(err)
		}

		return nil, explained{text: text, err: err}
	case len(data) == 0:
		return nil, fmt.Errorf("no %s of the cluster %s from Omni: the answer is empty", what, cluster)
	case len(data) > MaxConfig:
		return nil, fmt.Errorf("no %s of the cluster %s from Omni: the answer has %d bytes, more than %d", what, cluster, len(data), MaxConfig)
	default:
		return data, nil
	}
}
