package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// Names that omnictl gives to the same things.
const (
	envEndpoint = "OMNI_ENDPOINT"
	envKey      = "OMNI_SERVICE_ACCOUNT_KEY"
)

// omniFlags say which Omni to talk to. There is no flag for the key: a command line is
// visible to every user of the machine.
type omniFlags struct {
	endpoint string
	keyFile  string
	caFile   string
	insecure bool
}

func (f *omniFlags) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.endpoint, "omni-endpoint", "", "URL of Omni (default $"+envEndpoint+")")
	flags.StringVar(&f.keyFile, "omni-key-file", "", "file with the service account key (default $"+envKey+")")
	flags.StringVar(&f.caFile, "omni-ca-file", "", "certificates (PEM) to trust besides the system's")
	flags.BoolVar(&f.insecure, "omni-insecure", false, "allow http:// to another machine (kubeconfigs travel in the clear)")
}

// dial connects as the flags, else the configuration, else the environment say, and
// checks that Omni answers and accepts the key.
func (f *omniFlags) dial(ctx context.Context, cfg config.Omni, options ...grpc.DialOption) (*omni.Conn, error) {
	how, err := f.connection(cfg, options...)
	if err != nil {
		return nil, err
	}

	return dialOmni(ctx, how)
}

// dialOmni connects, and checks that Omni answers and accepts the key.
func dialOmni(ctx context.Context, how omni.ConnConfig) (*omni.Conn, error) {
	conn, err := omni.Dial(how)
	if err != nil {
		return nil, err
	}

	if err := conn.Check(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}

	return conn, nil
}

// connection says how to connect.
func (f *omniFlags) connection(cfg config.Omni, options ...grpc.DialOption) (omni.ConnConfig, error) {
	endpoint := firstOf(f.endpoint, cfg.Endpoint, os.Getenv(envEndpoint))
	if endpoint == "" {
		return omni.ConnConfig{}, errors.New("which Omni? set " + envEndpoint + " to its URL, like https://example.omni.siderolabs.io (or try `omni-syncd demo`)")
	}

	key := os.Getenv(envKey)

	if file := firstOf(f.keyFile, cfg.ServiceAccountKeyFile); file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return omni.ConnConfig{}, fmt.Errorf("reading the service account key: %w", withoutKey(err))
		}

		key = string(data)
	}

	if strings.TrimSpace(key) == "" {
		return omni.ConnConfig{}, errors.New("no service account key: set " + envKey + " or --omni-key-file; `omnictl serviceaccount create --role Operator NAME` prints one")
	}

	return omni.ConnConfig{
		Endpoint:          endpoint,
		ServiceAccountKey: key,
		CAFile:            firstOf(f.caFile, cfg.CAFile),
		Insecure:          f.insecure,
		UserAgent:         "omni-syncd/" + versionString(),
		DialOptions:       options,
	}, nil
}

// withoutKey takes the path out of the error of a file if it is too long to be one: it
// may well be the key itself.
func withoutKey(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) && len(path.Path) > 255 {
		return fmt.Errorf("the name of the file has %d characters (%w); is it the key itself?", len(path.Path), path.Err)
	}

	return err
}

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}

	return ""
}

// part is something that runs beside an engine.
type part func(context.Context, *sync.Engine) error

// drive runs an engine with its snapshot and other parts beside it, until the first of
// them ends. It and runEngine are the one place where components are started: all of them
// stop with ctx.
//
// The snapshot is read over conn, and so is written unless cfg.State says otherwise.
func drive(ctx context.Context, conn *omni.Conn, cfg sync.Config, parts ...part) error {
	return withSnapshot(ctx, conn, cfg.Logger, func(ctx context.Context, snapshot *omni.Snapshot) error {
		if cfg.State == nil {
			cfg.State = conn.State()
		}

		cfg.Snapshot = snapshot

		return runEngine(ctx, cfg, parts...)
	})
}

// withSnapshot reads Omni over conn while use runs.
func withSnapshot(ctx context.Context, conn *omni.Conn, log *zap.Logger, use func(context.Context, *omni.Snapshot) error) error {
	live := sync.SnapshotConfig(conn.State())
	live.Logger = logger(log)
	snapshot := omni.NewSnapshot(live)

	ctx, stop := context.WithCancel(ctx)
	defer stop()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return snapshot.Run(ctx) })
	group.Go(func() error {
		defer stop()

		return use(ctx, snapshot)
	})

	return group.Wait()
}

// runEngine runs an engine and other parts beside it, until the first of them ends.
func runEngine(ctx context.Context, cfg sync.Config, parts ...part) error {
	engine := sync.New(cfg)

	ctx, stop := context.WithCancel(ctx)
	defer stop()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return engine.Run(ctx) })

	for _, run := range parts {
		group.Go(func() error {
			defer stop()

			return run(ctx, engine)
		})
	}

	return group.Wait()
}

func logger(log *zap.Logger) *zap.Logger {
	if log == nil {
		return zap.NewNop()
	}

	return log
}
