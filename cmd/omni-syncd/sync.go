package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// syncFlags are the flags of sync.
type syncFlags struct {
	oneShot

	dryRun bool
	yes    bool
}

func newSync() *cobra.Command {
	var f syncFlags

	cmd := &cobra.Command{
		Use:   "sync [SOURCE]",
		Short: "Apply the templates once",
		Long: `Make Omni what the templates say, once, and print how every cluster stands.

With --prune it deletes clusters and fleet resources that left Git. It lists them first, and
asks; where there is no terminal, --yes says yes. It deletes only what came from the place that
it reads now, only if the commit that it was applied from is in the history of what is read, and
from a directory only if everything in it is committed. If more would go than --max-delete allows,
nothing is deleted. With --config it deletes from the sources that have ` + "`prune: true`" + `.

Exits 0 when every cluster is Synced, and 1 otherwise. SOURCE is a directory, a file
or a Git URL.`,
		Example: `  omni-syncd sync ./clusters
  omni-syncd sync https://git.example.com/platform/fleet.git --path clusters --dry-run
  omni-syncd sync ./clusters --name fleet --prune --yes --max-delete 2`,
		Args: cobra.MaximumNArgs(1),
		RunE: f.run,
	}

	f.bind(cmd, "info")
	f.src.besideConfig = []string{"prune", "max-delete", "max-delete-resources"}

	flags := cmd.Flags()
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the plan and change nothing")
	flags.BoolVar(&f.yes, "yes", false, "with --prune: delete what is listed without asking")
	flags.Lookup("prune").Usage = "delete clusters and fleet resources that left Git, after a question"
	flags.Lookup("max-delete").Usage = "with --prune: how many clusters may be deleted; if there are more, nothing is"

	return cmd
}

func (f *syncFlags) run(cmd *cobra.Command, args []string) error {
	if f.yes && !f.src.prune {
		return errors.New("--yes agrees to deletions, and there are none without --prune")
	}

	if f.dryRun && !cmd.Flags().Changed("log-level") {
		f.log.level = "error" // the plan says it all
	}

	cfg, err := f.src.load(cmd, args)
	if err != nil {
		return err
	}

	f.limit(cmd, cfg)

	var status sync.Status

	err = f.open(cmd, cfg, func(ctx context.Context, s *session) (err error) {
		status, err = f.sync(ctx, s)

		return err
	})
	if err != nil && len(status.Targets) > 0 && !f.dryRun {
		err = errors.Join(writeTable(cmd.OutOrStdout(), status), err)
	}

	if err != nil {
		return err
	}

	problems := sourceProblems(cmd.ErrOrStderr(), status)

	if f.dryRun {
		if err := writePlans(cmd.OutOrStdout(), status); err != nil {
			return err
		}

		return problemsError(problems)
	}

	if err := writeTable(cmd.OutOrStdout(), status); err != nil {
		return err
	}

	if !status.Synced() {
		return fmt.Errorf("not everything is synced: %s", unsynced(status))
	}

	return nil
}

// limit puts the bounds of the command line in the place of those of a configuration file.
func (f *syncFlags) limit(cmd *cobra.Command, cfg *config.Config) {
	for i := range cfg.Sources {
		if cmd.Flags().Changed("max-delete") {
			cfg.Sources[i].MaxDelete = &f.src.maxDelete
		}

		if cmd.Flags().Changed("max-delete-resources") {
			cfg.Sources[i].MaxDeleteResources = &f.src.maxDeleteResources
		}
	}
}

// sync applies everything once. What left Git is deleted if somebody agreed to exactly that.
func (f *syncFlags) sync(ctx context.Context, s *session) (sync.Status, error) {
	how := sync.Config{OneShot: true, DryRun: f.dryRun}

	for i := range s.sources {
		s.sources[i].DeleteAfter = 0
	}

	if f.src.prune && !f.dryRun {
		found, err := s.findDeletions(ctx)
		if err != nil {
			return sync.Status{}, err
		}

		found.declineDirty(s.cfg)
		found.declineMany(s.sources)
		found.write(s.cmd.ErrOrStderr())

		if err := found.decide(ctx, f.yes, s.cmd.InOrStdin(), s.cmd.ErrOrStderr()); err != nil {
			return sync.Status{}, err
		}

		how.Approved, how.Declined = found.verdict()
	}

	return s.pass(ctx, how, nil)
}
