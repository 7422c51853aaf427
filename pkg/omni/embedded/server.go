package embedded

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"github.com/siderolabs/omni/client/api/omni/management"
	"github.com/siderolabs/omni/client/pkg/constants"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // Omni's clients compress
	"google.golang.org/grpc/keepalive"
)

const (
	defaultListen = "127.0.0.1:0"
	defaultStep   = 20 * time.Millisecond

	// minKeepalive is how often a client may ping; Omni's ping every minute, more often than gRPC allows by default.
	minKeepalive = 5 * time.Second
)

// Config of a Server. The zero value serves plain http:// on a free port of the loopback interface, with controllers, without
// machines.
type Config struct {
	// Listen is the address to serve on; "127.0.0.1:0" if empty. Everything the server hands out is only good for itself, but it is
	// no Omni: keep it on loopback.
	Listen string
	// TLS serves https:// with a certificate made for this server; CA returns what verifies it.
	TLS bool

	// Accounts are service accounts beside AccountReader, AccountOperator and AccountAdmin, which always exist.
	Accounts []Account

	// Machines exist from the start. More can come: see AddMachine.
	Machines []Machine
	// HealthyMachines makes every machine that a template names exist, powered on. Without it such a machine is accepted, as in a
	// real Omni, and its cluster waits for it in SCALING_UP.
	HealthyMachines bool

	// Version is the release that it says it is; [Version] if empty. What it refuses is what that release refuses, of those that it
	// knows ([Releases]) the newest that is not newer. All else stays as in [Version].
	Version string

	// Step is the time a controller takes for one step of a resource's life; 20ms if 0. A new cluster takes 13 steps to get all its
	// finalizers, and some 8 to become ready.
	Step time.Duration
	// Lag, if not nil, is how much later than it happens the controllers see a change of a resource of this type, so that statuses
	// follow a write with a delay, each with its own. It is asked for every change, one type at a time.
	Lag func(resource.Type) time.Duration
	// NoControllers leaves the resources alone: no finalizers, by-products, statuses or cascades, and nothing torn down is destroyed.
	NoControllers bool

	// OnWrite, if not nil, is called after every write RPC, also a refused one, before its answer. It may be called concurrently.
	OnWrite func(Write)

	// Logger, if not nil, gets one line per lifecycle event and per controller failure.
	Logger *zap.Logger
}

// Server is an Omni in the process. See the package documentation for what it reproduces.
type Server struct {
	config   Config
	logger   *zap.Logger
	accounts accounts
	store    *store
	st       state.State // over store
	calls    counter
	faults   Faults
	tls      *tls.Config // nil without TLS
	ca       []byte

	address  string
	listener net.Listener // open since New, for the first serve
	epoch    atomic.Uint32
	running  atomic.Bool
	restarts chan restart
}

// New makes a server and listens, so that Endpoint is known and a client may connect; nothing is answered before Run.
func New(config Config) (*Server, error) {
	if config.Listen == "" {
		config.Listen = defaultListen
	}

	if config.Step <= 0 {
		config.Step = defaultStep
	}

	s := &Server{config: config, logger: config.Logger, store: newStore(), restarts: make(chan restart)}
	s.st = state.WrapCore(s.store)

	if s.logger == nil {
		s.logger = zap.NewNop()
	}

	var err error

	if s.accounts, err = newAccounts(append(defaultAccounts(), config.Accounts...)); err != nil {
		return nil, err
	}

	ctx := context.Background()

	if err = seed(ctx, s.st, s.version()); err != nil {
		return nil, err
	}

	for _, machine := range config.Machines {
		if err = s.AddMachine(ctx, machine); err != nil {
			return nil, err
		}
	}

	if s.listener, err = net.Listen("tcp", config.Listen); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", config.Listen, err)
	}

	s.address = s.listener.Addr().String()

	if config.TLS {
		if s.tls, s.ca, err = newCertificate(s.address); err != nil {
			return nil, errors.Join(err, s.listener.Close())
		}
	}

	return s, nil
}

func (s *Server) version() string { return cmp.Or(s.config.Version, Version) }

// Endpoint is the URL that OMNI_ENDPOINT takes: "http://127.0.0.1:<port>", or https with TLS. A restart keeps it.
func (s *Server) Endpoint() string {
	if s.tls != nil {
		return "https://" + s.address
	}

	return "http://" + s.address
}

// CA returns the PEM certificate that verifies the server, or nil without TLS.
func (s *Server) CA() []byte { return s.ca }

// State is the database without authorization, refusals and locks: what Omni's own controllers and a test use to change things
// behind a client's back. A watch on it ends silently with a Restore; open it anew.
func (s *Server) State() state.State { return s.st }

// Faults injects failures.
func (s *Server) Faults() *Faults { return &s.faults }

// Run serves until the context ends and returns nil then, with all connections cut and all goroutines gone. It runs at most once.
func (s *Server) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errRunning
	}

	for {
		next, err := s.serve(ctx)
		if err != nil || next == nil {
			return err
		}

		s.logger.Info("restarting")

		err = next.while(ctx)
		if err == nil {
			s.listener, err = net.Listen("tcp", s.address)
		}

		next.done <- err

		if err != nil {
			return fmt.Errorf("restart on %s: %w", s.address, err)
		}
	}
}

// RunControllers runs the controllers and nothing else, in the place of Run, until the context ends: nothing is served, State is the
// only way in. A test in a synctest bubble needs that: its clock stands still while a goroutine waits for the network.
func (s *Server) RunControllers(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errRunning
	}

	return errors.Join(s.listener.Close(), runControllers(ctx, s))
}

var errRunning = errors.New("the embedded Omni runs already")

// serve serves one incarnation, until the context ends (nil) or a restart is asked for.
func (s *Server) serve(ctx context.Context) (*restart, error) {
	var next *restart

	group, ctx := errgroup.WithContext(ctx)
	srv := s.newGRPC()
	stop := errors.New("stop")

	group.Go(func() error {
		if err := srv.Serve(s.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve on %s: %w", s.address, err)
		}

		return nil
	})

	if !s.config.NoControllers {
		group.Go(func() error { return runControllers(ctx, s) })
	}

	group.Go(func() error {
		defer srv.Stop()

		select {
		case r := <-s.restarts:
			next = &r

			return stop
		case <-ctx.Done():
			return nil
		}
	})

	s.logger.Info("serving", zap.String("endpoint", s.Endpoint()))

	if err := group.Wait(); err != nil && !errors.Is(err, stop) {
		return nil, err
	}

	return next, nil
}

func (s *Server) newGRPC() *grpc.Server {
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(constants.GRPCMaxMessageSize),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minKeepalive, PermitWithoutStream: true}),
		grpc.SharedWriteBuffer(true),
		grpc.WaitForHandlers(true),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
	}

	if s.tls != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.tls)))
	}

	srv := grpc.NewServer(options...)

	v1alpha1.RegisterStateServer(srv, &stateServer{
		State:  server.NewState(&userState{store: s.st, rules: rules{s.st, releaseOf(s.version())}}),
		store:  s.store,
		faults: &s.faults,
		epoch:  uint16(s.epoch.Load()), //nolint:gosec // wraps after 65535 restarts
	})
	management.RegisterManagementServiceServer(srv, &managementServer{st: s.st, endpoint: s.Endpoint()})

	return srv
}

// restart is a request to Run's loop: stop serving, do something, serve again.
type restart struct {
	while func(context.Context) error // while nothing is served and no controller runs
	done  chan error
}

// RestartOptions say what a restart does beside cutting all connections.
type RestartOptions struct {
	// ForgetBookmarks makes all bookmarks given out so far invalid (FailedPrecondition), as for resources that Omni holds in memory
	// only. Without it they stay good, as with Omni's database.
	ForgetBookmarks bool
	// Version, if not empty, is the release that comes up, in place of the one before: an upgrade, with what it does to the database.
	Version string
	// While, if not nil, runs while the server is down. When it returns, the server comes up again.
	While func()
}

// Restart cuts all connections and serves the same state on the same address again. It returns when it does, or with the context's
// error. The server must be running.
func (s *Server) Restart(ctx context.Context, options RestartOptions) error {
	return s.restart(ctx, func(ctx context.Context) error {
		if options.ForgetBookmarks {
			s.epoch.Add(1)
		}

		if options.While != nil {
			options.While()
		}

		if options.Version == "" {
			return nil
		}

		s.config.Version = options.Version

		return upgrade(ctx, s.st, s.version())
	})
}

// Backup copies the whole database at one instant, without stopping anything.
func (s *Server) Backup(ctx context.Context) (*Backup, error) { return s.store.backup(ctx) }

// Restore puts the database back to a backup and restarts: resources, versions and the positions of watches go back, so that a
// bookmark that was given out after the backup is from the future. The server must be running.
func (s *Server) Restore(ctx context.Context, backup *Backup) error {
	return s.restart(ctx, func(ctx context.Context) error {
		s.store.restore(backup)

		return upgrade(ctx, s.st, s.version()) // the backup may be of an older release
	})
}

func (s *Server) restart(ctx context.Context, while func(context.Context) error) error {
	r := restart{while: while, done: make(chan error, 1)}

	select {
	case s.restarts <- r:
	case <-ctx.Done():
		return fmt.Errorf("restart the embedded Omni, which may not be running: %w", ctx.Err())
	}

	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
