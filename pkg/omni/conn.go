package omni

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/protobuf/client"
	"github.com/siderolabs/go-api-signature/pkg/client/interceptor"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/client/management"
	"github.com/siderolabs/omni/client/pkg/compression"
	_ "github.com/siderolabs/omni/client/pkg/omni/resources/registry" // every resource type can be decoded
	_ "github.com/siderolabs/proto-codec/codec"                       // decodes large messages without reflection
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
)

// maxReceive bounds one message from Omni, in bytes. The bootstrap of an aggregated watch is one message with every
// resource of a kind, so Omni's own 32 MiB (its limit for what it receives) would end at some 80,000 config patches.
const maxReceive = 256 << 20

// A real Omni serves gRPC through net/http, which answers pings and sets no policy on them. A server on grpc-go's own
// transport must allow them (keepalive.EnforcementPolicy.MinTime), or it ends the connection with too_many_pings.
const (
	defaultKeepalive        = 30 * time.Second
	defaultKeepaliveTimeout = 10 * time.Second
	defaultIdle             = 30 * time.Minute
)

// ConnConfig says how to reach an Omni and as whom.
type ConnConfig struct {
	// Endpoint is the URL of Omni's API, as in OMNI_ENDPOINT: https://host[:port]. http:// and grpc:// are clear text.
	Endpoint string

	// ServiceAccountKey is what `omnictl serviceaccount create` printed, as in OMNI_SERVICE_ACCOUNT_KEY. Blanks around
	// it do not matter.
	ServiceAccountKey string

	// CAFile is a PEM file of certificate authorities to trust besides those of the system. Optional. (Go's
	// SSL_CERT_FILE replaces those of the system.)
	CAFile string

	// Insecure allows clear text to a host that is not this machine. Requests are signed, but not their bodies, and
	// kubeconfigs come back in the clear: only for a network that encrypts by itself, such as a service mesh.
	Insecure bool

	// Keepalive is the quiet time after which the connection is probed. 0 means 30 s; gRPC allows no less than 10 s.
	// A probe that is not answered within KeepaliveTimeout ends the connection, and with it the watches on it; so does
	// data that the other side does not acknowledge. 0 means 10 s.
	Keepalive, KeepaliveTimeout time.Duration

	// Idle is the time without a call after which the connection is closed, and attempts to connect end with their
	// backoff: the next call connects anew, at once. 0 means 30 minutes.
	Idle time.Duration

	// Wrap, if not nil, is put around every connection to Omni, below TLS and behind a proxy's handshake.
	Wrap func(net.Conn) net.Conn

	// UserAgent names this program and its version to Omni and its audit log, "omni-syncd/v1.2.3".
	UserAgent string

	// DialOptions are added to ours: metrics, tests. Interceptors must be given as chains.
	DialOptions []grpc.DialOption
}

// Conn is one connection to an Omni, signed with a service account. It is safe for concurrent use.
//
// A write that has not come back when its context ends is never delivered later: it takes the connection along, with
// every other call on it. Give the watches a Conn of their own.
type Conn struct {
	conn       *grpc.ClientConn
	state      state.State
	management *management.Client
	endpoint   string
	usesCA     bool
}

// Dial checks the configuration and sets up the connection. It does not call Omni: [Conn.Check] does. Its errors are
// one line each and never hold a part of the key.
func Dial(cfg ConnConfig) (*Conn, error) {
	target, secure, err := parseEndpoint(cfg.Endpoint, cfg.Insecure)
	if err != nil {
		return nil, err
	}

	key, err := checkKey(cfg.ServiceAccountKey)
	if err != nil {
		return nil, err
	}

	creds := insecure.NewCredentials()

	if secure {
		roots, err := RootCAs(cfg.CAFile)
		if err != nil {
			return nil, err
		}

		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots})
	}

	if err := loadDictionary(); err != nil {
		return nil, fmt.Errorf("load the dictionary of Omni's compressed resources: %w", err)
	}

	signer := interceptor.New(interceptor.Options{ServiceAccountBase64: key, ClientName: cfg.UserAgent})

	cfg.Keepalive = cmp.Or(cfg.Keepalive, defaultKeepalive)
	cfg.KeepaliveTimeout = cmp.Or(cfg.KeepaliveTimeout, defaultKeepaliveTimeout)
	cfg.Idle = cmp.Or(cfg.Idle, defaultIdle)

	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(lines{creds, cfg.Wrap}),
		grpc.WithChainUnaryInterceptor(signer.Unary(), overWithItsLine),
		grpc.WithChainStreamInterceptor(signer.Stream()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceive), grpc.UseCompressor(gzip.Name)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: cfg.Keepalive, Timeout: cfg.KeepaliveTimeout}),
		grpc.WithConnectParams(connectParams()),
		grpc.WithIdleTimeout(cfg.Idle),
		grpc.WithSharedWriteBuffer(true),
		grpc.WithUserAgent(cfg.UserAgent),
	}, cfg.DialOptions...)

	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("set up the connection to Omni at %s: %w", cfg.Endpoint, err)
	}

	return &Conn{
		conn: conn,
		// The adapter's own watch retry is off: Snapshot runs the loop itself.
		state:      state.WrapCore(client.NewAdapter(v1alpha1.NewStateClient(conn), client.WithDisableWatchRetry())),
		management: management.NewClient(conn),
		endpoint:   cfg.Endpoint,
		usesCA:     cfg.CAFile != "",
	}, nil
}

// State reads and writes Omni's resources. A watch on it ends with an Errored event and is not resumed.
func (c *Conn) State() state.State { return c.state }

// Management asks Omni for kubeconfigs, talosconfigs and the like.
func (c *Conn) Management() *management.Client { return c.management }

// Close ends the connection and every call on it.
func (c *Conn) Close() error { return c.conn.Close() }

// connectParams keeps the pause between connection attempts below the longest pause of a watch. gRPC's own would grow to
// two minutes, and calls in between fail without trying.
func connectParams() grpc.ConnectParams {
	params := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: 10 * time.Second}
	params.Backoff.BaseDelay = 200 * time.Millisecond
	params.Backoff.MaxDelay = 10 * time.Second

	return params
}

// maxEndpoint is the length of an endpoint, which is a scheme, a host name and a port.
const maxEndpoint = 300

// parseEndpoint turns the URL into gRPC's target and says whether TLS is to be used.
func parseEndpoint(endpoint string, allowClearText bool) (target string, secure bool, err error) {
	endpoint = strings.TrimSpace(endpoint)

	switch {
	case endpoint == "":
		return "", false, errors.New("no Omni endpoint: set OMNI_ENDPOINT, for example to https://example.omni.siderolabs.io")
	case len(endpoint) > maxEndpoint:
		// Not shown: it may well be the key, in the wrong variable.
		return "", false, fmt.Errorf("the Omni endpoint has %d characters and is no URL; is it the service account key?", len(endpoint))
	case strings.Contains(endpoint, "@"):
		// Not shown: what stands before an @ is a password.
		return "", false, errors.New("the Omni endpoint must not hold a user or password: omni-syncd signs in with the service account key")
	}

	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" {
		return "", false, fmt.Errorf("the Omni endpoint %q is not a URL like https://example.omni.siderolabs.io", endpoint)
	}

	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", false, fmt.Errorf("the Omni endpoint %q must be a host and port only, without %q", endpoint, u.RequestURI())
	}

	port := u.Port()

	switch u.Scheme {
	case "https":
		secure = true

		if port == "" {
			port = "443"
		}
	case "http", "grpc":
		if !allowClearText && !loopback(u.Hostname()) {
			return "", false, fmt.Errorf("the Omni endpoint %q is clear text to another machine: use https://, or allow it with --omni-insecure", endpoint)
		}

		if port == "" {
			port = "80"
		}
	default:
		return "", false, fmt.Errorf("the Omni endpoint %q must begin with https://", endpoint)
	}

	return net.JoinHostPort(u.Hostname(), port), secure, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)

	return host == "localhost" || (err == nil && addr.IsLoopback())
}

// RootCAs are those of the system and those of a PEM file; nil, which stands for the
// system's, without one.
func RootCAs(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // crypto/tls takes those of the system
	}

	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the certificate authorities: %w", err)
	}

	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's certificate authorities: %w", err)
	}

	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate: it has to be a PEM file with BEGIN CERTIFICATE", file)
	}

	return pool, nil
}

// loadDictionary lets the client library read data that Omni stored compressed with its dictionary. The library keeps
// that in a process-wide setting; whether we compress what we write is left as it is.
var loadDictionary = sync.OnceValue(func() error {
	config, err := compression.BuildConfig(specs.GetCompressionConfig().Enabled, true, false)
	if err != nil {
		return err
	}

	specs.SetCompressionConfig(config)

	return nil
})
