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
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
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

// session is a one-shot at work: its connection and its sources.
type session struct {
	*oneShot

	cmd       *cobra.Command
	cfg       *config.Config
	conn      *omni.Conn
	snapshot  *omni.Snapshot
	origins   *origins
	sources   []sync.SourceConfig
	suspended []sync.Suspension
	log       *zap.Logger
	progress  engineProgress
}

// open connects, reads Omni and opens the sources, and closes all of it when use returns.
func (o *oneShot) open(cmd *cobra.Command, cfg *config.Config, use func(context.Context, *session) error) error {
	log, err := o.log.build(cmd.ErrOrStderr())
	if err != nil {
		return err
	}

	if o.timeout <= 0 {
		return fmt.Errorf("--timeout %s: it must be positive", o.timeout)
	}

	s := &session{oneShot: o, cmd: cmd, cfg: cfg, log: log}

	ctx, cancel := o.deadline(cmd.Context())
	defer cancel()

	if s.conn, err = o.omni.dial(ctx, cfg.Omni); err != nil {
		return err
	}
	defer s.conn.Close() //nolint:errcheck // nothing is lost with a connection

	s.origins = newOrigins(o.src.stateDir, log, s.progress.fetching)
	defer s.origins.close()

	if s.sources, err = s.origins.sources(cfg, true); err != nil {
		return err
	}

	if s.suspended, _, err = suspensions(cfg.StateDir); err != nil {
		return err
	}

	return withSnapshot(cmd.Context(), s.conn, log, func(ctx context.Context, snapshot *omni.Snapshot) error {
		s.snapshot = snapshot

		return use(ctx, s)
	})
}

// pass looks at every source once and works until nothing more happens by itself. It
// returns the status at that moment, and rested, if not nil, is called then; its errors
// are about the connection and the time.
func (s *session) pass(ctx context.Context, how sync.Config, rested func(*sync.Engine, sync.Status)) (sync.Status, error) {
	how.State, how.Snapshot, how.Suspended = s.conn.State(), s.snapshot, s.suspended
	how.Requested = true
	how.PlanNewer = s.cfg.Omni.Newer == config.Plan

	if how.Sources == nil {
		how.Sources = s.sources
	}

	if how.Logger == nil {
		how.Logger = s.log
	}

	ctx, cancel := s.deadline(ctx)
	defer cancel()

	var last sync.Status

	err := runEngine(ctx, how, func(ctx context.Context, engine *sync.Engine) error {
		s.progress.engine, s.progress.snapshot = engine, engine.Snapshot

		defer whileShowing(ctx, consoleOf(s.cmd), s.progress.current)()

		err := engine.WaitStatus(ctx, func(status sync.Status) bool {
			last = status

			return status.Settled()
		})
		if err == nil && rested != nil {
			rested(engine, last)
		}

		return err
	})

	relocate(s.cfg, last)

	switch {
	case err == nil:
		return last, nil
	case s.cmd.Context().Err() != nil:
		return last, errors.New("interrupted")
	case ctx.Err() != nil:
		return last, fmt.Errorf("not done after %s: %s", s.timeout, unsettled(last))
	default:
		return last, err
	}
}

// plan makes the plan of everything and writes nothing; rested is as for pass.
func (o *oneShot) plan(cmd *cobra.Command, cfg *config.Config, rested func(*sync.Engine, sync.Status)) (status sync.Status, err error) {
	err = o.open(cmd, cfg, func(ctx context.Context, s *session) error {
		status, err = s.pass(ctx, sync.Config{DryRun: true}, rested)

		return err
	})

	return status, err
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
