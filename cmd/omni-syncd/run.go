package main

import (
	"context"
	"errors"
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
	src.bindDeleteAfter(cmd)
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
	stateDir string // the state directory, if it may be written to; "" if not, and without one
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

	lock, err := d.lockState()
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

	d.origins = newOrigins(d.stateDir, d.log, nil)
	d.origins.observe = meters.git()
	defer d.origins.close()

	history := openHistory(d.stateDir, d.log)
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
	cfg := sync.Config{Lead: replicas.lead(), Shard: d.shard, RetryMax: time.Duration(d.cfg.Retry.MaxInterval), TeardownWarnAfter: time.Duration(d.cfg.TeardownWarnAfter), Logger: d.log,
		DeleteWindow: time.Duration(d.cfg.DeleteWindow), PlanNewer: d.cfg.Omni.Newer == config.Plan}
	meters.engine(&cfg)

	if history != nil {
		cfg.History = history
	}

	var err error

	if shared := replicas.suspensions; shared != nil {
		cfg.KeepSuspended = shared.Keep

		if cfg.Suspended, err = shared.Load(ctx); err != nil {
			return cfg, err
		}
	} else if cfg.Suspended, cfg.KeepSuspended, err = suspensions(d.cfg.StateDir); err != nil {
		d.log.Error(cfg.Suspended[0].Reason) // a local file never stops the daemon
	}

	if replicas.suspensions == nil && d.stateDir != d.cfg.StateDir {
		cfg.KeepSuspended = func([]sync.Suspension) error {
			return errors.New("the state directory cannot be used, and the log says why")
		}
	}

	if err := d.ledger(ctx, &cfg, replicas); err != nil {
		return cfg, err
	}

	cfg.Sources, err = d.origins.sources(d.cfg, false)

	return cfg, err
}

// ledger says where it is written down what was deleted lately: where the suspensions are. Without such a place a restart
// forgets it.
func (d *daemon) ledger(ctx context.Context, cfg *sync.Config, replicas *replicas) (err error) {
	if shared := replicas.suspensions; shared != nil {
		cfg.KeepLedger = shared.KeepLedger
		cfg.Ledger, err = shared.LoadLedger(ctx)

		return err
	}

	if d.cfg.StateDir == "" {
		return nil
	}

	file := &sync.LedgerFile{Path: filepath.Join(d.cfg.StateDir, "deletions.json")}
	cfg.KeepLedger = file.Keep

	if cfg.Ledger, err = file.Load(); err != nil {
		d.log.Error(err.Error()) // a local file never stops the daemon
	}

	return nil
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
		d.log.Warn("changes outside `sources` and `deletions` need a restart")
	}

	d.notify.reloading()
	engine.Reconfigure(sources)
	d.origins.keep(cfg)
	d.cfg = cfg

	return nil
}

// suspensions returns what is suspended by request, and what keeps that; nil without a place
// for it. With an error it is everything. A one-shot leaves alone what the daemon of the same directory does.
func suspensions(stateDir string) ([]sync.Suspension, func([]sync.Suspension) error, error) {
	if stateDir == "" {
		return nil, nil, nil
	}

	file := sync.SuspensionFile(filepath.Join(stateDir, "suspended.json"))
	all, err := file.Load()

	return all, file.Keep, err
}

// lockState keeps a second daemon out of the state directory; without one there is nothing to
// keep it out of. One that cannot be locked, on a disk that is full or read-only, does not stop
// the daemon, which reads from it what is suspended and leaves it alone.
func (d *daemon) lockState() (io.Closer, error) {
	dir := d.cfg.StateDir
	if dir == "" {
		return io.NopCloser(nil), nil
	}

	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var lock *os.File
		if lock, err = source.LockState(dir); err == nil {
			d.stateDir = dir

			return lock, nil
		}
	}

	// That another daemon holds the lock is no error of the system.
	if system := syscall.Errno(0); !errors.As(err, &system) {
		return nil, err
	}

	d.log.Error("the state directory cannot be used: fetched repositories are in a temporary one, no history is kept, and what is suspended cannot be changed if it is kept there; "+
		"make it writable and restart", zap.String("stateDir", dir), zap.Error(err))

	return io.NopCloser(nil), nil
}

// needsRestart reports whether anything changed but the sources.
func needsRestart(before, after *config.Config) bool {
	one, other := *before, *after
	one.Sources, other.Sources = nil, nil
	one.Deletions, other.Deletions = "", ""

	return !reflect.DeepEqual(one, other)
}

// runningHistory is a history that is being written.
type runningHistory struct {
	*history.Store

	stop func()
	done chan struct{}
}

// openHistory opens the history in the state directory; nil without one. It is closed
// after the engine, which ends its last entries when it stops.
func openHistory(stateDir string, log *zap.Logger) *runningHistory {
	if stateDir == "" {
		return nil
	}

	ctx, stop := context.WithCancel(context.Background())
	h := &runningHistory{
		Store: history.Open(history.Config{Path: filepath.Join(stateDir, "history.db"), Logger: log}),
		stop:  stop, done: make(chan struct{}),
	}

	go func() {
		defer close(h.done)

		h.Run(ctx)
	}()

	return h
}

// close ends it; a history that is nil needs no end.
func (h *runningHistory) close() {
	if h == nil {
		return
	}

	h.stop()
	<-h.done
}
