package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newSync() *cobra.Command {
	var (
		once   oneShot
		dryRun bool
	)

	cmd := &cobra.Command{
		Use:   "sync [SOURCE]",
		Short: "Apply the templates once",
		Long: `Make Omni what the templates say, once, and print how every cluster stands.

Exits 0 when every cluster is Synced, and 1 otherwise. SOURCE is a directory, a file
or a Git URL.`,
		Example: `  omni-syncd sync ./clusters
  omni-syncd sync https://git.example.com/platform/fleet.git --path clusters --dry-run`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dryRun && !cmd.Flags().Changed("log-level") {
				once.log.level = "error" // the plan says it all
			}

			cfg, err := once.src.load(cmd, args)
			if err != nil {
				return err
			}

			status, err := once.pass(cmd, cfg, dryRun, nil)
			if err != nil && len(status.Targets) > 0 && !dryRun {
				err = errors.Join(writeTable(cmd.OutOrStdout(), status), err)
			}

			if err != nil {
				return err
			}

			problems := sourceProblems(cmd.ErrOrStderr(), status)

			if dryRun {
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
		},
	}

	once.bind(cmd, "info")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the plan and change nothing")

	return cmd
}
