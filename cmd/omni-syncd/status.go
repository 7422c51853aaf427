package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
)

func newStatus() *cobra.Command {
	var (
		daemon clientFlags
		source string
		format string
		watch  bool
	)

	cmd := &cobra.Command{
		Use:   "status [CLUSTER]",
		Short: "Show what the daemon knows",
		Long: `Ask the running daemon how every cluster stands, or about one cluster in detail.

Without a daemon, and with $OMNI_ENDPOINT and $OMNI_SERVICE_ACCOUNT_KEY, it asks Omni how the
clusters are that omni-syncd made; whether they are as Git says is not known then.

Exits 0 when the daemon answered, whatever it said.`,
		Example: `  omni-syncd status
  omni-syncd status production
  omni-syncd status --watch`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: daemon.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(format); err != nil {
				return err
			}

			clusters := &v1.ListClustersRequest{Source: source}

			if len(args) == 1 {
				clusters.Cluster = &args[0]
			}

			if !watch && format == "" && daemon.direct() {
				return daemon.showMarked(cmd, source, clusters.Cluster)
			}

			c, err := daemon.open()
			if err != nil {
				return err
			}

			switch {
			case watch:
				return c.explain(watchStatus(cmd, c, clusters, format))
			case len(args) == 1:
				return c.explain(showCluster(cmd, c, source, args[0], format))
			default:
				return c.explain(showClusters(cmd, c, clusters, format))
			}
		},
	}

	daemon.bind(cmd)
	flags := cmd.Flags()
	flags.StringVar(&source, "source", "", "only clusters of this source")
	flags.StringVarP(&format, "output", "o", "", "json or yaml: everything that the daemon tells")
	flags.BoolVarP(&watch, "watch", "w", false, "show changes as they happen, until interrupted")
	_ = cmd.RegisterFlagCompletionFunc("source", daemon.completeSources)

	return cmd
}

// showClusters prints the table of clusters, and what is wrong with the sources to stderr.
func showClusters(cmd *cobra.Command, c *client, req *v1.ListClustersRequest, format string) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
	defer cancel()

	sources, err := c.ListSources(ctx, connect.NewRequest(&v1.ListSourcesRequest{}))
	if err != nil {
		return err
	}

	clusters, err := c.ListClusters(ctx, connect.NewRequest(req))
	if err != nil {
		return err
	}

	if format != "" {
		return writeLists(cmd.OutOrStdout(), format, sources.Msg, clusters.Msg)
	}

	for _, src := range sources.Msg.GetSources() {
		writeProblems(cmd.ErrOrStderr(), src)
	}

	for _, s := range sources.Msg.GetSuspended() {
		gone := s.Cluster != nil && !slices.ContainsFunc(clusters.Msg.GetClusters(), func(c *v1.Cluster) bool { return c.GetName() == s.GetCluster() })
		if gone && req.Cluster == nil && req.GetSource() == "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is suspended by %s, and it is not there; `omni-syncd resume %s` forgets that\n",
				printable(s.GetCluster()), printable(s.GetSuspension().GetBy()), printable(s.GetCluster()))
		}
	}

	if !clusters.Msg.GetReady() {
		fmt.Fprintln(cmd.ErrOrStderr(), "Omni was not read completely yet")
	}

	writeOmni(cmd.ErrOrStderr(), clusters.Msg.GetOmni())

	writeReplica(cmd.ErrOrStderr(), clusters.Msg.GetReplica())

	return writeTable(cmd.OutOrStdout(), statusOf(sources.Msg.GetSources(), clusters.Msg.GetClusters()))
}

func writeLists(w io.Writer, format string, sources *v1.ListSourcesResponse, clusters *v1.ListClustersResponse) error {
	var lists struct {
		Ready    json.RawMessage `json:"ready"`
		Omni     json.RawMessage `json:"omni"`
		Sources  json.RawMessage `json:"sources"`
		Clusters json.RawMessage `json:"clusters"`
	}

	one, err := raw(sources)
	if err != nil {
		return err
	}

	other, err := raw(clusters)
	if err != nil {
		return err
	}

	for _, data := range []json.RawMessage{one, other} {
		if err := json.Unmarshal(data, &lists); err != nil {
			return err
		}
	}

	return writeRaw(w, format, lists)
}

// writeProblems says what is wrong with a source.
func writeProblems(w io.Writer, src *v1.Source) {
	switch {
	case src.GetError() != "":
		fmt.Fprintf(w, "error: source %s: %s\n", src.GetName(), printable(src.GetError()))
	case !src.GetFetched():
		fmt.Fprintf(w, "source %s was not fetched yet\n", src.GetName())
	}

	if s := src.GetSuspension(); s != nil {
		fmt.Fprintf(w, "source %s is suspended by %s%s\n", src.GetName(), printable(s.GetBy()), printable(prefixed(": ", s.GetReason())))
	}

	for _, problem := range src.GetProblems() {
		fmt.Fprintln(w, printable(problem))
	}

	if n := src.GetProblemsOmitted(); n > 0 {
		fmt.Fprintf(w, "and %d more problems in source %s\n", n, src.GetName())
	}
}

// writeOmni says what people should know of the server.
func writeOmni(w io.Writer, o *v1.Omni) {
	if o.GetAway() != "" {
		fmt.Fprintf(w, "Omni has been away for %s: %s; this is how things were, and nothing is written until it is back\n", age(time.Since(o.GetAwaySinceTime().AsTime())), printable(o.GetAway()))
	}

	if o.GetNote() != "" {
		fmt.Fprintln(w, printable(o.GetNote()))
	}
}

// writeReplica says which of several daemons answered, unless it is one that does everything.
func writeReplica(w io.Writer, r *v1.Replica) {
	if n := r.GetShards(); n > 0 {
		fmt.Fprintf(w, "this is shard %d of 0 to %d; the clusters of the others are not listed\n", r.GetShard(), n-1)
	}

	switch {
	case r == nil || r.GetLeads():
	case r.GetLeader() == "":
		fmt.Fprintln(w, "this replica stands by, and no other one is known to lead")
	default:
		fmt.Fprintf(w, "this replica stands by; %s leads\n", printable(r.GetLeader()))
	}
}

// prefixed returns "" for "".
func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}

	return prefix + text
}

// showCluster prints everything about one cluster.
func showCluster(cmd *cobra.Command, c *client, source, name, format string) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
	defer cancel()

	clusters, err := c.ListClusters(ctx, connect.NewRequest(&v1.ListClustersRequest{Source: source, Cluster: &name}))
	if err != nil {
		return err
	}

	// Whose roles are in Kubernetes may see a cluster and no list: that needs the role for
	// everything.
	sources, err := c.ListSources(ctx, connect.NewRequest(&v1.ListSourcesRequest{}))
	if connect.CodeOf(err) == connect.CodePermissionDenied {
		sources, err = connect.NewResponse(&v1.ListSourcesResponse{}), nil
	}

	if err != nil {
		return err
	}

	var details []detail

	// Two sources that both describe a cluster are a conflict to see.
	for _, cluster := range clusters.Msg.GetClusters() {
		d := detail{cluster: cluster}

		for _, src := range sources.Msg.GetSources() {
			if src.GetName() == cluster.GetSource() {
				d.source = src
			}
		}

		plan, err := c.GetPlan(ctx, connect.NewRequest(&v1.GetPlanRequest{Source: cluster.GetSource(), Cluster: cluster.GetName()}))

		switch {
		case err == nil:
			d.plan = plan.Msg
			d.cluster = plan.Msg.GetCluster()
		case connect.CodeOf(err) != connect.CodeFailedPrecondition: // there is none yet
			return err
		}

		details = append(details, d)
	}

	for i, d := range details {
		if format != "" {
			err = d.writeRaw(cmd.OutOrStdout(), format)
		} else {
			if i > 0 {
				fmt.Fprintln(cmd.OutOrStdout())
			}

			err = d.write(cmd.OutOrStdout(), time.Now())
		}

		if err != nil {
			return err
		}
	}

	return nil
}

// detail is everything about one cluster. The source is nil if it went meanwhile, the plan
// if there is none yet.
type detail struct {
	cluster *v1.Cluster
	source  *v1.Source
	plan    *v1.GetPlanResponse
}

func (d *detail) writeRaw(w io.Writer, format string) error {
	parts := map[string]json.RawMessage{}

	var err error

	if parts["cluster"], err = raw(d.cluster); err != nil {
		return err
	}

	if d.source != nil {
		if parts["source"], err = raw(d.source); err != nil {
			return err
		}
	}

	if d.plan != nil {
		d.plan.Cluster = nil // it is there once

		if parts["plan"], err = raw(d.plan); err != nil {
			return err
		}
	}

	return writeRaw(w, format, parts)
}

// write prints a line for each thing that there is to know, and the plan below.
func (d *detail) write(w io.Writer, now time.Time) error {
	var out strings.Builder

	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&out, "%-10s %s\n", key, printable(value))
		}
	}

	c := d.cluster
	since := func(word string, at *timestamppb.Timestamp, why string) string {
		if at != nil {
			word += " for " + age(now.Sub(at.AsTime()))
		}

		if why != "" {
			word += ": " + why
		}

		return word
	}

	line("cluster", cmp.Or(c.GetName(), "(fleet resources)"))
	line("source", strings.TrimSuffix(c.GetSource()+", "+c.GetPath(), ", "))
	line("sync", since(string(syncWords[c.GetSync()]), c.GetSinceTime(), c.GetMessage()))

	if health := healthWords[c.GetHealth()]; health != "" {
		line("health", since(string(health), c.GetHealthSinceTime(), c.GetHealthReason()))
	}

	if s := c.GetSuspension(); s != nil {
		line("suspended", since("by "+s.GetBy(), s.GetSinceTime(), s.GetReason()))
	}

	line("revision", c.GetRevision())

	if operation := operationWords[c.GetOperation()]; operation != "" {
		line("operation", fmt.Sprintf("%s, %d of %s done", operation, c.GetDone(), plural(int(c.GetTotal()), "write")))
	}

	if at := c.GetTeardownSinceTime(); at != nil {
		line("teardown", "for "+age(now.Sub(at.AsTime())))
	}

	if last, next := d.source.GetLastPollTime(), d.source.GetNextPollTime(); last != nil {
		line("polled", age(now.Sub(last.AsTime()))+" ago, next in "+age(next.AsTime().Sub(now)))
	}

	line("problem", d.source.GetError())

	switch {
	case d.plan == nil:
		line("plan", "none yet")
	case d.plan.GetText() == "":
		line("plan", "no difference")
	default:
		fmt.Fprintf(&out, "\n%s", printable(d.plan.GetText()))

		for _, c := range d.plan.GetConsequences() {
			fmt.Fprintf(&out, "  %s: %s\n", c.GetSeverity(), printable(c.GetText()))
		}
	}

	_, err := io.WriteString(w, out.String())

	return err
}

// age writes a duration as the eye takes it in: 5s, 12m, 3h, 8d.
func age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}
