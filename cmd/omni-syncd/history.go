package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/pkg/history"
)

var outcomeWords = map[v1.Outcome]history.Outcome{
	v1.Outcome_OUTCOME_SUCCEEDED: history.Succeeded, v1.Outcome_OUTCOME_FAILED: history.Failed, v1.Outcome_OUTCOME_HELD: history.Held,
	v1.Outcome_OUTCOME_SUPERSEDED: history.Superseded, v1.Outcome_OUTCOME_INTERRUPTED: history.Interrupted,
}

func newHistory() *cobra.Command {
	var (
		daemon clientFlags
		source string
		format string
		limit  int32
	)

	cmd := &cobra.Command{
		Use:   "history CLUSTER",
		Short: "Show what was applied to a cluster",
		Long: `Show what the daemon applied to a cluster, the newest first: which revision, whose,
why, and how it ended. The daemon keeps it in its state directory.`,
		Example: `  omni-syncd history production
  omni-syncd history production -n 1 -o json`,
		Args:              exactly("which cluster? name it; `omni-syncd status` lists them"),
		ValidArgsFunction: daemon.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(format); err != nil {
				return err
			}

			if limit < 1 {
				return fmt.Errorf("-n %d: it must be at least 1", limit)
			}

			ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
			defer cancel()

			c, err := daemon.open()
			if err != nil {
				return err
			}

			res, err := c.ListHistory(ctx, connect.NewRequest(&v1.ListHistoryRequest{Source: source, Cluster: args[0], Limit: limit}))
			if err != nil {
				return c.explain(err)
			}

			if format == "" {
				return writeHistory(cmd.OutOrStdout(), res.Msg.GetEntries())
			}

			data, err := raw(res.Msg)
			if err != nil {
				return err
			}

			return writeRaw(cmd.OutOrStdout(), format, data)
		},
	}

	daemon.bind(cmd)
	flags := cmd.Flags()
	flags.StringVar(&source, "source", "", "source of the cluster, if several have one of that name")
	flags.StringVarP(&format, "output", "o", "", "json or yaml: everything, every write included")
	flags.Int32VarP(&limit, "limit", "n", 20, "how many entries, at most 1000")
	_ = cmd.RegisterFlagCompletionFunc("source", daemon.completeSources)

	return cmd
}

// writeHistory writes one line per entry.
func writeHistory(w io.Writer, entries []*v1.HistoryEntry) error {
	if len(entries) == 0 {
		_, err := fmt.Fprintln(w, "nothing was applied yet")

		return err
	}

	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ENDED\tTOOK\tOUTCOME\tREVISION\tWHY\tWRITES\tMESSAGE")

	for _, e := range entries {
		message := cmp.Or(e.GetError(), e.GetMessage())
		if e.GetError() == "" && e.GetAuthor() != "" {
			message += " (" + e.GetAuthor() + ")"
		}

		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			e.GetEndTime().AsTime().Local().Format(time.DateTime), e.GetEndTime().AsTime().Sub(e.GetStartTime().AsTime()).Round(10*time.Millisecond),
			outcomeWords[e.GetOutcome()], shortRevision(oneLine(e.GetRevision())), oneLine(e.GetReason()), writes(e), oneLine(message))
	}

	return table.Flush()
}

// writes counts the writes of an entry by what they did: "2 create, 1 update".
func writes(e *v1.HistoryEntry) string {
	counts := map[string]int{}
	for _, op := range e.GetOperations() {
		counts[op.GetAction()]++
	}

	var parts []string

	for _, action := range []string{"create", "adopt", "update", "release", "destroy"} {
		if counts[action] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[action], action))
		}
	}

	if e.GetOmitted() > 0 {
		parts = append(parts, fmt.Sprintf("%d more", e.GetOmitted()))
	}

	return cmp.Or(strings.Join(parts, ", "), "none")
}
