package main

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
)

func newConfirm() *cobra.Command {
	var (
		daemon clientFlags
		source string
	)

	cmd := &cobra.Command{
		Use:   "confirm CLUSTER | KIND/NAME",
		Short: "Allow a deletion that waits for it",
		Long: `Allow a deletion that waits for a confirmation: of a cluster by its name, of a fleet
resource like MachineClass/worker, and what a guard stopped in a cluster that stays.

It is written down in Omni beside the mark that it is for. It covers what waits now and
nothing later: when the template comes back, it ends. Protection, suspension and locks
hold all the same.`,
		Example: `  omni-syncd status
  omni-syncd confirm edge
  omni-syncd confirm MachineClass/worker`,
		Args:              exactly("which deletion? name the cluster, or a fleet resource like MachineClass/worker; `omni-syncd status` shows what waits"),
		ValidArgsFunction: daemon.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
			defer cancel()

			c, err := daemon.open()
			if err != nil {
				return err
			}

			res, err := c.operator.Confirm(ctx, connect.NewRequest(&v1.ConfirmRequest{Source: source, Name: args[0]}))
			if err != nil {
				return c.explain(err)
			}

			_, err = fmt.Fprintf(cmd.OutOrStdout(), "confirmed %s of the source %s; `omni-syncd status --watch` shows what becomes of it\n", args[0], res.Msg.GetSource())

			return err
		},
	}

	daemon.bind(cmd)
	cmd.Flags().StringVar(&source, "source", "", "source of the deletion (default: the one that has it)")
	_ = cmd.RegisterFlagCompletionFunc("source", daemon.completeSources)

	return cmd
}
