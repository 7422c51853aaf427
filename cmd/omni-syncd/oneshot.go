package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// oneShot is what diff and sync share: the flags, and one pass over the sources.
type oneShot struct {
	src     sourceFlags
	omni    omniFlags
	log     logFlags
	timeout time.Duration
}

func (o *oneShot) bind(cmd *cobra.Command, logLevel string) {
	o.src.bindSync(cmd)
	o.omni.bind(cmd)
	o.log.bind(cmd)

	level := cmd.Flags().Lookup("log-level")
	level.DefValue = logLevel
	o.log.level = logLevel

	cmd.Flags().DurationVar(&o.timeout, "timeout", 10*time.Minute, "give up after this long")
}

// deadline bounds everything that a one-shot does.
func (o *oneShot) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, o.timeout, errors.New("timeout"))
}

// pass looks at every source once and works until nothing more happens by itself. It
// returns the status at that moment, and rested, if not nil, is called then; its errors
// are about the connection and the time.
func (o *oneShot) pass(cmd *cobra.Command, cfg *config.Config, dryRun bool, rested func(*sync.Engine, sync.Status)) (sync.Status, error) {
	log, err := o.log.build(cmd.ErrOrStderr())
	if err != nil {
		return sync.Status{}, err
	}

	if o.timeout <= 0 {
		return sync.Status{}, fmt.Errorf("--timeout %s: it must be longer than nothing", o.timeout)
	}

	ctx, cancel := o.deadline(cmd.Context())
	defer cancel()

	conn, err := o.omni.dial(ctx, cfg.Omni)
	if err != nil {
		return sync.Status{}, err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection

	var progress engineProgress

	from := newOrigins(o.src.stateDir, log, progress.fetching)
	defer from.close()

	sources, err := from.sources(cfg, true)
	if err != nil {
		return sync.Status{}, err
	}

	suspended, _, err := suspensions(cfg.StateDir)
	if err != nil {
		return sync.Status{}, err
	}

	var last sync.Status

	err = drive(ctx, conn, sync.Config{Sources: sources, DryRun: dryRun, Requested: true, Suspended: suspended, Logger: log},
		func(ctx context.Context, engine *sync.Engine) error {
			progress.engine, progress.snapshot = engine, engine.Snapshot

			defer whileShowing(ctx, consoleOf(cmd), progress.current)()

			err := engine.WaitStatus(ctx, func(status sync.Status) bool {
				last = status

				return status.Settled()
			})
			if err == nil && rested != nil {
				rested(engine, last)
			}

			return err
		})

	relocate(cfg, last)

	switch {
	case err == nil:
		return last, nil
	case cmd.Context().Err() != nil:
		return last, errors.New("interrupted")
	case ctx.Err() != nil:
		return last, fmt.Errorf("not done after %s: %s", o.timeout, unsettled(last))
	default:
		return last, err
	}
}

// relocate gives the problems of a directory the paths under which the person who named
// it finds the files.
func relocate(cfg *config.Config, status sync.Status) {
	for i := range cfg.Sources {
		if cfg.Sources[i].Dir == nil {
			continue
		}

		for j := range status.Sources {
			if src := &status.Sources[j]; src.Name == cfg.Sources[i].Name {
				src.Problems = inDirectory(cfg.Sources[i].Dir.Path, src.Problems)
			}
		}
	}
}

func inDirectory(dir string, problems template.Problems) template.Problems {
	problems = slices.Clone(problems)
	for i := range problems {
		problems[i] = problems[i].Moved(func(file string) string { return filepath.Join(dir, file) })
	}

	return problems
}

// unsettled says what a status still waits for.
func unsettled(status sync.Status) string {
	var parts []string

	for i := range status.Sources {
		if !status.Sources[i].Fetched {
			parts = append(parts, "the source "+status.Sources[i].Name+" was not fetched")
		}
	}

	for i := range status.Targets {
		if t := &status.Targets[i]; !t.Settled {
			parts = append(parts, targetName(t)+": "+t.Message)
		}
	}

	return strings.Join(parts, "; ")
}

// sourceProblems writes what is wrong with the sources to w and returns how many things are.
func sourceProblems(w io.Writer, status sync.Status) int {
	n := 0

	for i := range status.Sources {
		src := &status.Sources[i]

		if src.Error != "" {
			fmt.Fprintf(w, "error: source %s: %s\n", src.Name, src.Error)
			n++
		}

		for _, problem := range src.Problems {
			fmt.Fprintln(w, problem)
			n++
		}
	}

	return n
}

func targetName(t *sync.TargetStatus) string {
	if t.Target == "" {
		return "(fleet resources)"
	}

	return t.Target
}

// writeTable writes one line per target.
func writeTable(w io.Writer, status sync.Status) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)

	several := len(status.Sources) > 1
	if several {
		fmt.Fprint(table, "SOURCE\t")
	}

	fmt.Fprintln(table, "CLUSTER\tSYNC\tHEALTH\tREVISION\tMESSAGE")

	for i := range status.Targets {
		t := &status.Targets[i]
		if several {
			fmt.Fprint(table, t.Source, "\t")
		}

		health := string(t.Health)
		if health == "" {
			health = "-"
		}

		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", targetName(t), t.Sync, health, shortRevision(t.Revision), cmp.Or(t.Message, t.HealthReason))
	}

	return table.Flush()
}

// shortRevision cuts main@sha1:<40 hex> to what people compare by eye.
func shortRevision(revision string) string {
	if at := strings.LastIndex(revision, ":"); at >= 0 && len(revision) > at+13 {
		return revision[:at+13]
	}

	return revision
}
