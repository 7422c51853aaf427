package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

func newReconcile() *cobra.Command {
	var (
		daemon  clientFlags
		source  string
		wait    bool
		timeout time.Duration
	)

	cmd := &cobra.Command{
		Use:   "reconcile CLUSTER | --source SOURCE",
		Short: "Have the daemon try a cluster now",
		Long: `Have the running daemon try a cluster, or all clusters of a source, now: what Omni
refused is sent again, and a cluster whose policy is manual is written to until it is
Synced. Guards, locks and suspension hold as ever.

With --wait it waits until nothing more happens by itself: everything is written, and Omni
has done it, such as an upgrade. Then it prints how things stand, and exits 0 if everything
that was asked for is Synced and Healthy (or gone, if it left Git), else 1.`,
		Example: `  omni-syncd reconcile production --wait
  omni-syncd reconcile --source fleet`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: daemon.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout <= 0 {
				return fmt.Errorf("--timeout %s: it must be longer than nothing", timeout)
			}

			c, cluster, err := daemon.about(args, source)
			if err != nil {
				return err
			}

			req := &v1.ReconcileRequest{Source: source, Cluster: cluster, Wait: wait}

			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()

			res, err := c.operator.Reconcile(ctx, connect.NewRequest(req))

			switch {
			case connect.CodeOf(err) == connect.CodeDeadlineExceeded && cmd.Context().Err() == nil:
				return notDone(cmd, c, req, timeout)
			case err != nil:
				return c.explain(err)
			case !wait:
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "asked for %s; `omni-syncd status --watch` shows what comes of it\n", plural(len(res.Msg.GetClusters()), "target"))

				return err
			}

			status := statusOf(nil, res.Msg.GetClusters())

			if len(status.Targets) == 0 {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "nothing is left of it: it is gone from Git and from Omni")

				return err
			}

			if err := writeTable(cmd.OutOrStdout(), status); err != nil {
				return err
			}

			switch {
			case !status.Synced():
				return fmt.Errorf("not everything is synced: %s", unsynced(status))
			case !healthy(status):
				return fmt.Errorf("not everything is healthy: %s", unhealthy(status))
			default:
				return nil
			}
		},
	}

	daemon.bind(cmd)
	flags := cmd.Flags()
	flags.StringVar(&source, "source", "", "all clusters of this source, or the source of CLUSTER")
	flags.BoolVar(&wait, "wait", false, "wait until nothing more happens by itself")
	flags.DurationVar(&timeout, "timeout", 10*time.Minute, "give up waiting after this long, at most 1h; the daemon works on")
	_ = cmd.RegisterFlagCompletionFunc("source", daemon.completeSources)

	return cmd
}

// notDone says what the daemon is still at when the time is up.
func notDone(cmd *cobra.Command, c *client, req *v1.ReconcileRequest, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
	defer cancel()

	res, err := c.ListClusters(ctx, connect.NewRequest(&v1.ListClustersRequest{Source: req.GetSource(), Cluster: req.Cluster}))
	if err != nil {
		return c.explain(err)
	}

	status := statusOf(nil, res.Msg.GetClusters())
	if err := writeTable(cmd.OutOrStdout(), status); err != nil {
		return err
	}

	return fmt.Errorf("not done after %s, and the daemon works on: %s", timeout, cmp.Or(unsettled(sync.Status{Targets: status.Targets}), unhealthy(status)))
}

// unhealthy names the clusters that are not healthy, and says why.
func unhealthy(status sync.Status) string {
	var parts []string

	for i := range status.Targets {
		if t := &status.Targets[i]; t.Target != "" && t.Health != sync.Healthy {
			parts = append(parts, targetName(t)+": "+cmp.Or(t.HealthReason, string(t.Health)))
		}
	}

	return strings.Join(parts, "; ")
}
