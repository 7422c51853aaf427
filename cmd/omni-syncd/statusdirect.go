package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// askOmni says on stderr that it is not the daemon who answers, and connects to Omni with
// the environment's credentials.
func (f *clientFlags) askOmni(cmd *cobra.Command) (*omni.Conn, error) {
	conn, err := new(omniFlags).dial(cmd.Context(), config.Omni{})
	if err != nil {
		return nil, err
	}

	fmt.Fprintf(cmd.ErrOrStderr(), "no daemon has its socket at %s: this is what Omni itself says\n", f.path())

	return conn, nil
}

// showMarked prints the clusters in Omni that carry the mark of a source, as far as that
// can be told without a daemon.
func (f *clientFlags) showMarked(cmd *cobra.Command, source string, cluster *string) error {
	conn, err := f.askOmni(cmd)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection

	ctx, stop := context.WithTimeout(cmd.Context(), callTimeout)
	defer stop()

	snapshot := omni.NewSnapshot(sync.SnapshotConfig(conn.State()))

	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return snapshot.Run(running) })
	group.Go(func() error {
		defer stop()

		return snapshot.WaitReady(running)
	})

	if err := group.Wait(); err != nil {
		return fmt.Errorf("reading the clusters from Omni: %w", err)
	}

	marked, others := sync.Survey(snapshot)
	marked = slices.DeleteFunc(marked, func(t sync.TargetStatus) bool {
		return source != "" && t.Source != source || cluster != nil && t.Target != *cluster
	})
	slices.SortFunc(marked, func(a, b sync.TargetStatus) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Target, b.Target))
	})

	if cluster != nil && len(marked) == 0 {
		return fmt.Errorf("there is no cluster %q in Omni that omni-syncd made", *cluster)
	}

	if others > 0 && cluster == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "Omni has %s that omni-syncd did not make\n", plural(others, "more cluster"))
	}

	status := sync.Status{Targets: marked}
	for i := range marked {
		if name := marked[i].Source; !slices.ContainsFunc(status.Sources, func(s sync.SourceStatus) bool { return s.Name == name }) {
			status.Sources = append(status.Sources, sync.SourceStatus{Name: name})
		}
	}

	return writeTable(cmd.OutOrStdout(), status)
}
