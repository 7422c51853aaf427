package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

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
		Use:   "confirm DIGEST",
		Short: "Allow a deletion that a guard stopped",
		Long: `Allow a deletion that a guard stopped, by the digest that the message of the cluster
names: exactly that deletion, until the daemon ends. What must stand for longer belongs
into the configuration (` + "`confirm`" + ` of the source).`,
		Example: `  omni-syncd status
  omni-syncd confirm 0123456789ab`,
		Args: exactly("which deletion? give its digest; `omni-syncd status` shows it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
			defer cancel()

			c, err := daemon.open()
			if err != nil {
				return err
			}

			if source == "" {
				var err error
				if source, err = sourceThatAsks(ctx, c, args[0]); err != nil {
					return err
				}
			}

			if _, err := c.operator.Confirm(ctx, connect.NewRequest(&v1.ConfirmRequest{Source: source, Digest: args[0]})); err != nil {
				return c.explain(err)
			}

			_, err = fmt.Fprintf(cmd.OutOrStdout(), "confirmed for the source %s; `omni-syncd status --watch` shows what comes of it\n", source)

			return err
		},
	}

	daemon.bind(cmd)
	cmd.Flags().StringVar(&source, "source", "", "source of the deletion (default: the one in which a cluster asks for DIGEST)")
	_ = cmd.RegisterFlagCompletionFunc("source", daemon.completeSources)

	return cmd
}

// sourceThatAsks returns the source that has a cluster whose message asks for a digest.
func sourceThatAsks(ctx context.Context, c *client, digest string) (string, error) {
	res, err := c.ListClusters(ctx, connect.NewRequest(&v1.ListClustersRequest{}))
	if err != nil {
		return "", c.explain(err)
	}

	i := slices.IndexFunc(res.Msg.GetClusters(), func(cluster *v1.Cluster) bool {
		return digest != "" && strings.HasSuffix(cluster.GetMessage(), "confirm: "+digest)
	})
	if i < 0 {
		return "", fmt.Errorf("no cluster asks for the digest %q: `omni-syncd status` shows which one it is by now", digest)
	}

	return res.Msg.GetClusters()[i].GetSource(), nil
}
