package omni

import (
	"context"
	"net"
	"slices"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// lines makes the connections of a [Conn]. They are closed by a reset: what the kernel has not delivered by then is
// thrown away, however they end, also when the process does.
type lines struct {
	credentials.TransportCredentials

	wrap func(net.Conn) net.Conn // below TLS; may be nil
}

// line is one of them. It is known to every call that it carries.
type line struct {
	credentials.AuthInfo

	conn net.Conn
}

// ClientHandshake implements credentials.TransportCredentials.
func (l lines) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0) // only a connection that has ended already refuses
	}

	if l.wrap != nil {
		conn = l.wrap(conn)
	}

	secured, info, err := l.TransportCredentials.ClientHandshake(ctx, authority, conn)

	return secured, line{info, conn}, err
}

// Clone implements credentials.TransportCredentials.
func (l lines) Clone() credentials.TransportCredentials {
	return lines{l.TransportCredentials.Clone(), l.wrap}
}

// writes are the calls that change something in Omni.
var writes = map[string]bool{
	v1alpha1.State_Create_FullMethodName:             true,
	v1alpha1.State_Update_FullMethodName:             true,
	v1alpha1.State_Destroy_FullMethodName:            true,
	v1alpha1.State_Teardown_FullMethodName:           true,
	v1alpha1.State_TeardownAndDestroy_FullMethodName: true,
}

// overWithItsLine resets the connection that carried a write when the caller gave up. Without that, a connection that
// leads nowhere for a while would deliver the write afterwards, when nobody knows any more whether it is still right.
func overWithItsLine(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if !writes[method] {
		return invoke(ctx, method, req, reply, cc, opts...)
	}

	var carrier peer.Peer

	err := invoke(ctx, method, req, reply, cc, append(slices.Clip(opts), grpc.Peer(&carrier))...)

	if used, ok := carrier.AuthInfo.(line); ok && err != nil && ctx.Err() != nil {
		_ = used.conn.Close() // there is nothing to save
	}

	return err
}
