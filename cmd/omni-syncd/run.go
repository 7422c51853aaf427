package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/history"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

func newRun() *cobra.Command {
	var (
		src    sourceFlags
		omni   omniFlags
		log    logFlags
		socket string
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

			conn, err := omni.dial(cmd.Context(), cfg.Omni)
			if err != nil {
				return err
			}
			defer conn.Close() //nolint:errcheck // nothing is lost with a connection

			d := &daemon{cfg: cfg, path: src.config, log: logger, origins: newOrigins(cfg.StateDir, logger, nil)}
			defer d.origins.close()

			engine := sync.Config{
				RetryMax: time.Duration(cfg.Retry.MaxInterval), TeardownWarnAfter: time.Duration(cfg.TeardownWarnAfter), Logger: logger,
			}

			if engine.Sources, err = d.origins.sources(cfg, false); err != nil {
				return err
			}

			history, err := openHistory(cfg.StateDir, logger)
			if err != nil {
				return err
			}

			if history != nil {
				defer history.close()

				engine.History = history
			}

			webhooks, err := listenForWebhooks(cfg, d.origins, logger)
			if err != nil {
				return err
			}

			api, err := listenForCalls(firstOf(socket, cfg.API.Socket), history, logger)
			if err != nil {
				return err
			}

			d.webhooks = webhooks
			d.announce(cfg)

			err = drive(cmd.Context(), conn, engine, d.untilStopped, d.reload, webhooks.run, api.run)
			logger.Info("stopped")

			return err
		},
	}

	src.bindSync(cmd)
	cmd.Flags().DurationVar(&src.interval, "interval", config.DefaultInterval, "how often Git is asked for news")
	cmd.Flags().StringVar(&socket, "socket", "", "unix socket of the API, or none (default: omni-syncd.sock in $RUNTIME_DIRECTORY or $XDG_RUNTIME_DIR)")
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

	if d.path == "" {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hangups:
				d.log.Info("there is no configuration file to read again: the source stands on the command line")
			}
		}
	}

	adopt := func(cfg *config.Config) error { return d.adopt(cfg, engine) }

	return config.Watch(ctx, d.path, d.cfg, hangups, adopt, func(err error) {
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
		d.log.Warn("what changed in `omni`, `stateDir`, `retry`, `teardownWarnAfter`, `api` or `webhooks` counts after a restart")
	}

	engine.Reconfigure(sources)
	d.origins.keep(cfg)
	d.cfg = cfg

	return nil
}

func needsRestart(before, after *config.Config) bool {
	listen := func(c *config.Config) config.Webhooks {
		if c.Webhooks == nil {
			return config.Webhooks{}
		}

		return *c.Webhooks
	}

	return before.Omni != after.Omni || before.StateDir != after.StateDir || before.Retry != after.Retry ||
		before.TeardownWarnAfter != after.TeardownWarnAfter || before.API != after.API || listen(before) != listen(after)
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

func (h *runningHistory) close() {
	h.stop()

	if err := <-h.done; err != nil {
		h.log.Warn(fmt.Sprint("the end of the history is lost: ", err))
	}
}
