package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/cosi-project/runtime/pkg/state"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

func newKubeconfig() *cobra.Command {
	var (
		verb    configVerb
		request access.Request
		token   bool
		account access.ServiceAccount
	)

	cmd := &cobra.Command{
		Use:   "kubeconfig CLUSTER",
		Short: "Get into a cluster with kubectl",
		Long: `Get the kubeconfig of a cluster that the daemon syncs, and merge it into the first file of
$KUBECONFIG, or ~/.kube/config, as its current context. Other contexts stay; merging the
same cluster again replaces its own entries. Comments in the file are lost, as with kubectl.

It holds no secret: kubectl logs in to Omni with the browser, for which it needs the plugin
oidc-login. With --service-account it holds a token in place of the login, for a user and
groups of the cluster's RBAC. Nobody can revoke that token, so ask for a short --ttl; the
daemon's configuration has to allow it. A file with a token in it is made one that only its
owner may use.

Without a daemon, and with $OMNI_ENDPOINT and $OMNI_SERVICE_ACCOUNT_KEY, it asks Omni itself,
for any cluster that this account may see.`,
		Example: `  omni-syncd kubeconfig production
  omni-syncd kubeconfig production --context prod --switch=false
  omni-syncd kubeconfig production --service-account --user ci --groups deployers --ttl 15m -o ci.kubeconfig`,
		Args:              exactly("of which cluster? `omni-syncd status` lists them"),
		ValidArgsFunction: verb.daemon.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Source, request.Cluster = verb.source, args[0]

			if token {
				request.ServiceAccount = &account
			} else if name := firstChanged(cmd, "user", "groups", "ttl"); name != "" {
				return fmt.Errorf("--%s is for a token: add --service-account", name)
			}

			opts, err := request.Options()
			if err != nil {
				return err
			}

			if err := verb.check(cmd); err != nil {
				return err
			}

			data, err := verb.fetch(cmd, args[0], func(ctx context.Context, c *client) ([]byte, error) {
				res, err := c.access.GetKubeconfig(ctx, connect.NewRequest(kubeconfigRequest(request)))
				if err != nil {
					return nil, err
				}

				return res.Msg.GetKubeconfig(), nil
			}, func(ctx context.Context, conn *omni.Conn) ([]byte, error) {
				return conn.Kubeconfig(ctx, args[0], opts...)
			})
			if err != nil {
				return err
			}

			if verb.output != "" {
				return verb.write(cmd, data, access.EditKubeconfig)
			}

			merged, err := access.MergeKubeconfig(cmd.Context(), access.KubeconfigPaths(), data, verb.merge)
			if err != nil {
				return err
			}

			next := "kubectl get nodes"
			if !merged.Current {
				next = "kubectl --context " + merged.Context + " get nodes"
			}

			told := "it logs in to Omni with the browser, by kubectl's plugin oidc-login"
			if token {
				told = "its token holds for " + account.TTL.String()
			}

			tell(cmd, merged, next, told)

			return nil
		},
	}

	verb.bind(cmd)
	flags := cmd.Flags()
	flags.StringVar(&request.GrantType, "grant-type", "", "how to log in: "+strings.Join(access.GrantTypes, ", ")+" (default: as Omni says)")
	flags.BoolVar(&token, "service-account", false, "get a token in place of a login")
	flags.StringVar(&account.User, "user", "", "with --service-account: the user in the cluster")
	flags.StringSliceVar(&account.Groups, "groups", nil, "with --service-account: the groups of the user in the cluster")
	flags.DurationVar(&account.TTL, "ttl", time.Hour, "with --service-account: how long the token holds")
	_ = cmd.RegisterFlagCompletionFunc("grant-type", cobra.FixedCompletions(access.GrantTypes, cobra.ShellCompDirectiveNoFileComp))

	return cmd
}

func kubeconfigRequest(r access.Request) *v1.GetKubeconfigRequest {
	req := &v1.GetKubeconfigRequest{Source: r.Source, Cluster: r.Cluster, GrantType: r.GrantType}
	if a := r.ServiceAccount; a != nil {
		req.ServiceAccount = &v1.ServiceAccount{User: a.User, Groups: a.Groups, Ttl: durationpb.New(a.TTL)}
	}

	return req
}

// configVerb is what kubeconfig and talosconfig have in common.
type configVerb struct {
	daemon clientFlags
	source string
	output string
	force  bool
	merge  access.MergeOptions
	become bool
}

func (v *configVerb) bind(cmd *cobra.Command) {
	v.daemon.bind(cmd)
	flags := cmd.Flags()
	flags.StringVar(&v.source, "source", "", "the source of the cluster, if its name is not enough")
	flags.StringVarP(&v.output, "output", "o", "", "write it to this file, for its owner only, or to stdout (-), and merge nothing")
	flags.BoolVar(&v.force, "force", false, "with -o: replace the file")
	flags.StringVar(&v.merge.Context, "context", "", "name of the context (default: Omni's name of the cluster)")
	flags.BoolVar(&v.become, "switch", true, "make it the current context")
	_ = cmd.RegisterFlagCompletionFunc("source", v.daemon.completeSources)
	_ = cmd.RegisterFlagCompletionFunc("context", cobra.NoFileCompletions)
}

// check refuses flags that mean nothing together, before anything is asked for.
func (v *configVerb) check(cmd *cobra.Command) error {
	v.merge.KeepCurrent = !v.become

	switch {
	case v.force && (v.output == "" || v.output == "-"):
		return errors.New("--force replaces the file of -o; merging keeps what is in the file")
	case v.output != "" && cmd.Flags().Changed("switch"):
		return errors.New("--switch is about merging; with -o nothing is merged")
	default:
		return nil
	}
}

// fetch asks the daemon, or Omni itself if there is none.
func (v *configVerb) fetch(cmd *cobra.Command, cluster string,
	daemon func(context.Context, *client) ([]byte, error), direct func(context.Context, *omni.Conn) ([]byte, error),
) ([]byte, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
	defer cancel()

	if !v.daemon.direct() {
		c, err := v.daemon.open()
		if err != nil {
			return nil, err
		}

		data, err := daemon(ctx, c)

		return data, c.explain(err)
	}

	conn, err := v.daemon.askOmni(cmd)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection

	// Omni hands out a login also for a cluster that does not exist.
	live, err := conn.State().Get(ctx, omnires.NewCluster(cluster).Metadata())

	switch {
	case state.IsNotFoundError(err):
		return nil, fmt.Errorf("there is no cluster %q in Omni", cluster)
	case err != nil:
		return nil, fmt.Errorf("asking Omni for the cluster %s: %s", cluster, omni.Message(err))
	case v.source != "" && diff.SourceOf(live) != v.source:
		return nil, fmt.Errorf("the cluster %q is not one of the source %q", cluster, v.source)
	}

	return direct(ctx, conn)
}

// write writes a config to stdout or to a file.
func (v *configVerb) write(cmd *cobra.Command, data []byte, edit func([]byte, access.MergeOptions) ([]byte, error)) error {
	data, err := edit(data, v.merge)
	if err != nil {
		return err
	}

	if v.output == "-" {
		_, err := cmd.OutOrStdout().Write(data)

		return err
	}

	if err := access.WriteFile(v.output, data, v.force); err != nil {
		return err
	}

	fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s\n", v.output)

	return nil
}

// tell says in one line what was merged, who lost access by that, and what to do next.
func tell(cmd *cobra.Command, merged access.Merged, next, more string) {
	line := "merged into " + merged.Path
	if !merged.Changed {
		line = "nothing new for " + merged.Path
	}

	line += fmt.Sprintf(": the context %s", merged.Context)

	if merged.Taken != "" {
		line += fmt.Sprintf(" (%s leads elsewhere)", merged.Taken)
	}

	if merged.Current {
		line += " is the current one"
	} else {
		line += " is not the current one"
	}

	if merged.Shut != "" {
		line += fmt.Sprintf("; only its owner may use %s from now on (mode 0600), because of the secret in it", merged.Shut)
	}

	fmt.Fprintln(cmd.ErrOrStderr(), printable(line+"; "+more+"; next: "+next))
}

// firstChanged returns the first of some flags that somebody set.
func firstChanged(cmd *cobra.Command, names ...string) string {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return name
		}
	}

	return ""
}
