package main

import (
	"context"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

func newRun() *cobra.Command {
	var (
		src  sourceFlags
		omni omniFlags
		log  logFlags
	)

	cmd := &cobra.Command{
		Use:   "run [SOURCE]",
		Short: "Follow Git continuously",
		Long: `Follow a Git repository or a directory and keep Omni as it says, until stopped.

SOURCE is a directory or a Git URL. Several sources are given with --config.`,
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

			sources, closeSources := openAll(cfg, false, logger, nil)
			defer closeSources() //nolint:errcheck // temporary files

			for i := range cfg.Sources {
				logger.Info("following", zap.String("source", cfg.Sources[i].Name), zap.String("from", origin(&cfg.Sources[i])))
			}

			err = drive(cmd.Context(), conn, sync.Config{Sources: sources, Logger: logger},
				func(ctx context.Context, _ *sync.Engine) error {
					<-ctx.Done()
					logger.Info("stopping; writes under way are waited for")

					return nil
				})
			logger.Info("stopped")

			return err
		},
	}

	src.bindSync(cmd)
	cmd.Flags().DurationVar(&src.interval, "interval", config.DefaultInterval, "how often Git is asked for news")
	omni.bind(cmd)
	log.bind(cmd)

	return cmd
}
