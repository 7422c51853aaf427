package main

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

func newSuspend() *cobra.Command {
	var (
		daemon clientFlags
		source string
		reason string
	)

	cmd := &cobra.Command{
		Use:   "suspend CLUSTER | --source SOURCE",
		Short: "Have the daemon leave a cluster alone",
		Long: `Have the running daemon plan a cluster, or all of a source with what comes later, and
write nothing to it, until ` + "`omni-syncd resume`" + `. It holds after a restart.

What is to be reviewed belongs into Git: the annotation omni-syncd/suspend: "true" of a
Cluster, or ` + "`suspend: true`" + ` of a source in the configuration.`,
		Example: `  omni-syncd suspend production --reason "storage is being moved"
  omni-syncd suspend --source fleet`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: daemon.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, cluster, err := daemon.about(args, source)
			if err != nil {
				return err
			}

			ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
			defer cancel()

			if _, err := c.operator.Suspend(ctx, connect.NewRequest(&v1.SuspendRequest{Source: source, Cluster: cluster, Reason: reason})); err != nil {
				return c.explain(err)
			}

			_, err = fmt.Fprintf(cmd.OutOrStdout(), "suspended %s; `omni-syncd resume` takes it back\n", described(source, cluster))

			return err
		},
	}

	daemon.bind(cmd)
	cmd.Flags().StringVar(&source, "source", "", "all of this source, or the source of CLUSTER")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who see it in the status")
	_ = cmd.RegisterFlagCompletionFunc("source", daemon.completeSources)

	return cmd
}

func newResume() *cobra.Command {
	var (
		daemon clientFlags
		source string
	)

	cmd := &cobra.Command{
		Use:   "resume CLUSTER | --source SOURCE",
		Short: "Take back what suspend did",
		Long: `Have the running daemon work again on a cluster, or a source, that was suspended with
` + "`omni-syncd suspend`" + `: exactly that cluster or that source. What is suspended in Git or in
the configuration stays so.`,
		Example: `  omni-syncd resume production
  omni-syncd resume --source fleet
  omni-syncd resume --source '*'   # everything, if nobody knows what was suspended`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: daemon.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, cluster, err := daemon.about(args, source)
			if err != nil {
				return err
			}

			ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
			defer cancel()

			if _, err := c.operator.Resume(ctx, connect.NewRequest(&v1.ResumeRequest{Source: source, Cluster: cluster})); err != nil {
				return c.explain(err)
			}

			_, err = fmt.Fprintf(cmd.OutOrStdout(), "resumed %s; `omni-syncd status --watch` shows what comes of it\n", described(source, cluster))

			return err
		},
	}

	daemon.bind(cmd)
	cmd.Flags().StringVar(&source, "source", "", "this source as a whole, or the source of CLUSTER")
	_ = cmd.RegisterFlagCompletionFunc("source", daemon.completeSources)

	return cmd
}

// about returns the daemon and what a verb is about: the cluster, or nil for all of the
// source.
func (f *clientFlags) about(args []string, source string) (*client, *string, error) {
	var cluster *string

	switch {
	case len(args) == 1:
		cluster = &args[0]
	case source == "":
		return nil, nil, errors.New("which cluster? name it, or a source with --source; `omni-syncd status` lists them")
	}

	c, err := f.open()

	return c, cluster, err
}

func described(source string, cluster *string) string {
	switch {
	case cluster == nil && source == sync.EverySource:
		return "everything"
	case cluster == nil:
		return "all of the source " + source
	case *cluster == "":
		return "the fleet resources of the source " + source
	default:
		return *cluster
	}
}
