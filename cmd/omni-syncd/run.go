package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/history"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

func newRun() *cobra.Command {
	var (
		src    sourceFlags
		omni   omniFlags
		log    logFlags
		socket string
		shard  string
	)

	cmd := &cobra.Command{
		Use:   "run [SOURCE]",
		Short: "Follow Git continuously",
		Long: `Follow a Git repository or a directory and keep Omni as it says, until stopped.

SOURCE is a directory or a Git URL. Several sources are given with --config; that file is
read again when it changes and on SIGHUP.`,
		Example: `  omni-syncd run https://git.example.com/platform/fleet.git --path clusters
  omni-syncd run --config /etc/omni-syncd/config.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := src.load(cmd, args)
			if err != nil {
				return err
			}

			logger, err := log.build(cmd.ErrOrStderr())
			if err != nil {
				return err
			}

			d := &daemon{cfg: cfg, path: src.config, log: logger}

			if d.shard, err = sync.ParseShard(shard); err != nil {
				return fmt.Errorf("--shard: %w", err)
			}

			return d.run(cmd.Context(), &omni, socket)
		},
	}

	src.bindSync(cmd)
	cmd.Flags().DurationVar(&src.interval, "interval", config.DefaultInterval, "how often Git is asked for news")
	cmd.Flags().StringVar(&socket, "socket", "", "unix socket of the API, or none (default: omni-syncd.sock in $RUNTIME_DIRECTORY or $XDG_RUNTIME_DIR)")
	cmd.Flags().StringVar(&shard, "shard", "", "work on a part of the clusters, INDEX/COUNT: 0/4 is the first of four (default: all of them)")
	omni.bind(cmd)
	log.bind(cmd)

	return cmd
}

// daemon is what run keeps beside the engine.
type daemon struct {
	cfg      *config.Config
	path     string // of the configuration; "" if the command line describes the source
	log      *zap.Logger
	origins  *origins
	webhooks *webhooks
	notify   *notifier
	shard    sync.Shard
	meters   *meters
}

// run takes everything that the configuration names, so that what is in use or missing is
// an error at start, and follows the sources until ctx ends.
func (d *daemon) run(ctx context.Context, omni *omniFlags, socket string) error {
	cfg := d.cfg

	notify, err := newNotifier(d.log)
	if err != nil {
		return err
	}

	d.notify = notify

	meters, err := listenForScrapes(cfg.Metrics, d.log)
	if err != nil {
		return err
	}

	d.meters = meters

	lock, err := lockState(cfg.StateDir)
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // it goes with the process at the latest

	replicas, err := joinReplicas(cfg, d.shard, d.log)
	if err != nil {
		return err
	}
	defer replicas.close()

	d.notify.say("connecting to Omni")

	how, err := omni.connection(cfg.Omni, meters.omni()...)
	if err != nil {
		return err
	}

	conn, err := dialOmni(ctx, how)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection

	d.origins = newOrigins(cfg.StateDir, d.log, nil)
	d.origins.observe = meters.git()
	defer d.origins.close()

	history, err := openHistory(cfg.StateDir, d.log)
	if err != nil {
		return err
	}
	defer history.close()

	engine, err := d.engine(ctx, meters, history, replicas)
	if err != nil {
		return err
	}

	if engine.State, err = replicas.writer(how); err != nil {
		return err
	}

	if d.webhooks, err = listenForWebhooks(cfg, d.origins, d.log); err != nil {
		return err
	}

	issuer, err := issuing(&cfg.Access, conn, d.log)
	if err != nil {
		return err
	}

	api, err := listenForCalls(firstOf(socket, cfg.API.Socket), cfg, history, issuer, d.log)
	if err != nil {
		return err
	}

	directory, err := openAccessDirectory(cfg.Access.Directory, issuer, d.log)
	if err != nil {
		return err
	}

	secrets, err := openAccessSecrets(cfg, issuer, d.shard.Owns, d.log)
	if err != nil {
		return err
	}

	meters.webhooks(d.webhooks)
	api.config.Interceptors = meters.api()
	d.announce(cfg)

	err = drive(ctx, conn, engine, d.untilStopped, d.reload, d.webhooks.run, api.run, directory.run, whileLeading(secrets.run), meters.run, d.notify.run, replicas.run)
	d.log.Info("stopped")

	return err
}

// engine says how the engine is to work.
func (d *daemon) engine(ctx context.Context, meters *meters, history *runningHistory, replicas *replicas) (sync.Config, error) {
	cfg := sync.Config{Lead: replicas.lead(), Shard: d.shard, RetryMax: time.Duration(d.cfg.Retry.MaxInterval), TeardownWarnAfter: time.Duration(d.cfg.TeardownWarnAfter), Logger: d.log}
	meters.engine(&cfg)

	if history != nil {
		cfg.History = history
	}

	var err error

	if shared := replicas.suspensions; shared != nil {
		cfg.KeepSuspended = shared.Keep
		cfg.Suspended, err = shared.Load(ctx)
	} else {
		cfg.Suspended, cfg.KeepSuspended, err = suspensions(d.cfg.StateDir)
	}

	if err != nil {
		return cfg, err
	}

	cfg.Sources, err = d.origins.sources(d.cfg, false)

	return cfg, err
}

func (d *daemon) announce(cfg *config.Config) {
	for i := range cfg.Sources {
		d.log.Info("following", zap.String("source", cfg.Sources[i].Name), zap.String("from", describeOrigin(&cfg.Sources[i])))
	}
}

// untilStopped waits for the end.
func (d *daemon) untilStopped(ctx context.Context, _ *sync.Engine) error {
	<-ctx.Done()
	d.log.Info("stopping; writes under way are waited for")

	return nil
}

// reload keeps to the configuration file as it changes.
func (d *daemon) reload(ctx context.Context, engine *sync.Engine) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)

	asked := d.notify.forward(ctx, hangups)

	if d.path == "" {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-asked:
				d.log.Info("there is no configuration file to read again: the source stands on the command line")
				d.notify.reloaded(nil)
			}
		}
	}

	adopt := func(cfg *config.Config) error { return d.adopt(cfg, engine) }

	return config.Watch(ctx, d.path, d.cfg, asked, adopt, func(err error) {
		defer d.notify.reloaded(err)

		d.meters.configured(err)

		if err != nil {
			d.log.Error("the configuration is ignored, the last one stays in force", zap.Error(err))

			return
		}

		d.log.Info("the configuration was read again", zap.Int("sources", len(d.cfg.Sources)))
	})
}

// adopt makes a configuration the one in force, as a whole or not at all.
func (d *daemon) adopt(cfg *config.Config, engine *sync.Engine) error {
	sources, err := d.origins.sources(cfg, false)
	if err != nil {
		return err
	}

	if err := d.webhooks.replace(cfg, d.origins); err != nil {
		return err
	}

	if needsRestart(d.cfg, cfg) {
		d.log.Warn("what changed beside `sources` counts after a restart")
	}

	d.notify.reloading()
	engine.Reconfigure(sources)
	d.origins.keep(cfg)
	d.cfg = cfg

	return nil
}

// suspensions returns what is suspended by request, and what keeps that; nil without a place
// for it. A one-shot leaves alone what the daemon of the same directory does.
func suspensions(stateDir string) ([]sync.Suspension, func([]sync.Suspension) error, error) {
	if stateDir == "" {
		return nil, nil, nil
	}

	file := sync.SuspensionFile(filepath.Join(stateDir, "suspended.json"))
	all, err := file.Load()

	return all, file.Keep, err
}

// lockState keeps a second daemon out of a state directory; without one there is nothing to
// keep it out of.
func lockState(dir string) (io.Closer, error) {
	if dir == "" {
		return io.NopCloser(nil), nil
	}

	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("stateDir: %w", err)
	}

	return source.LockState(dir)
}

// needsRestart reports whether anything changed but the sources.
func needsRestart(before, after *config.Config) bool {
	one, other := *before, *after
	one.Sources, other.Sources = nil, nil

	return !reflect.DeepEqual(one, other)
}

// runningHistory is a history that is being written.
type runningHistory struct {
	*history.Store

	stop func()
	done chan error
	log  *zap.Logger
}

// openHistory opens the history in the state directory; nil without one. It is closed
// after the engine, which ends its last entries when it stops.
func openHistory(stateDir string, log *zap.Logger) (*runningHistory, error) {
	if stateDir == "" {
		return nil, nil
	}

	store, err := history.Open(history.Config{Path: filepath.Join(stateDir, "history.db"), Logger: log})
	if err != nil {
		return nil, err
	}

	ctx, stop := context.WithCancel(context.Background())
	h := &runningHistory{store, stop, make(chan error, 1), log}

	go func() { h.done <- store.Run(ctx) }()

	return h, nil
}

// close ends it; a history that is nil needs no end.
func (h *runningHistory) close() {
	if h == nil {
		return
	}

	h.stop()

	if err := <-h.done; err != nil {
		h.log.Warn(fmt.Sprint("the end of the history is lost: ", err))
	}
}
