package main

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

func newTalosconfig() *cobra.Command {
	var verb configVerb

	cmd := &cobra.Command{
		Use:   "talosconfig CLUSTER",
		Short: "Get into the machines of a cluster with talosctl",
		Long: `Get the talosconfig of a cluster that the daemon syncs, and merge it into $TALOSCONFIG, or
~/.talos/config, as its current context. Other contexts stay; merging the same cluster
again replaces its own context.

It holds no secret: talosctl signs every request with a key of its own, after a login with
the browser. The identity in it says who signs. Omni writes the identity of the account
that asked, which is the daemon's service account, and a person cannot sign as that: with
--identity it is your own e-mail address, as Omni knows it.

Without a daemon, and with $OMNI_ENDPOINT and $OMNI_SERVICE_ACCOUNT_KEY, it asks Omni itself,
for any cluster that this account may see.`,
		Example: `  omni-syncd talosconfig production --identity jane@example.com
  omni-syncd talosconfig production -o -`,
		Args:              exactly("of which cluster? `omni-syncd status` lists them"),
		ValidArgsFunction: verb.daemon.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := verb.check(cmd); err != nil {
				return err
			}

			data, err := verb.fetch(cmd, args[0], func(ctx context.Context, c *client) ([]byte, error) {
				res, err := c.access.GetTalosconfig(ctx, connect.NewRequest(&v1.GetTalosconfigRequest{Source: verb.source, Cluster: args[0]}))
				if err != nil {
					return nil, err
				}

				return res.Msg.GetTalosconfig(), nil
			}, func(ctx context.Context, conn *omni.Conn) ([]byte, error) { return conn.Talosconfig(ctx, args[0]) })
			if err != nil {
				return err
			}

			if verb.output != "" {
				return verb.write(cmd, data, access.EditTalosconfig)
			}

			path, err := access.TalosconfigPath()
			if err != nil {
				return err
			}

			merged, err := access.MergeTalosconfig(cmd.Context(), path, data, verb.merge)
			if err != nil {
				return err
			}

			next := "talosctl get members"
			if !merged.Current {
				next = "talosctl --context " + merged.Context + " get members"
			}

			told := "requests are signed as " + verb.merge.Identity
			if verb.merge.Identity == "" {
				told = "it names the account that asked Omni; --identity EMAIL makes it yours"
			}

			tell(cmd, merged, next, told)

			return nil
		},
	}

	verb.bind(cmd)
	cmd.Flags().StringVar(&verb.merge.Identity, "identity", "", "e-mail address of the person who signs (default: the account that asked Omni)")
	_ = cmd.RegisterFlagCompletionFunc("identity", cobra.NoFileCompletions)

	return cmd
}
