package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// demoInterval is how often the demo's repository is looked at; it lies on this machine.
const demoInterval = time.Second

// demoSettle is how long a cluster has to be ready to count as healthy; its machines do
// not exist, so nothing flaps for long.
const demoSettle = time.Second

// demoDeleteAfter is how long a template has to be gone, so that people see what happens then without waiting for it.
const demoDeleteAfter = 5 * time.Second

type demoFlags struct {
	once        bool
	omniOnly    bool
	omniVersion string
	listen      string
	dir         string
	timeout     time.Duration
	log         logFlags
}

func newDemo() *cobra.Command {
	var flags demoFlags

	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Try it: an Omni and a Git repository, both in this process",
		Long: `Start an Omni inside this process, make a Git repository with example templates, and
follow it. Commit a change in the printed repository and watch it arrive.

Nothing outside of this machine is talked to. The machines of the clusters do not exist:
the embedded Omni plays them. With --omni-version it refuses what that release of Omni
refuses.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(); err != nil {
				return err
			}

			log, err := flags.log.build(cmd.ErrOrStderr())
			if err != nil {
				return err
			}

			version, err := embedded.VersionOf(flags.omniVersion)
			if err != nil {
				return fmt.Errorf("--omni-version: %w", err)
			}

			server, err := embedded.New(embedded.Config{Listen: flags.listen, HealthyMachines: true, Machines: demoMachines(), Version: version})
			if err != nil {
				return err
			}

			return flags.run(cmd, server, log)
		},
	}

	set := cmd.Flags()
	set.BoolVar(&flags.once, "once", false, "exit as soon as every cluster is Synced")
	set.BoolVar(&flags.omniOnly, "omni-only", false, "serve the Omni alone and print how to reach it")
	set.StringVar(&flags.omniVersion, "omni-version", embedded.Releases()[0], "release that the embedded Omni plays: "+strings.Join(embedded.Releases(), ", "))
	set.StringVar(&flags.listen, "listen", "127.0.0.1:0", "address of the embedded Omni")
	set.StringVar(&flags.dir, "dir", "", "where to make the repository, kept afterwards (default: a temporary directory)")
	set.DurationVar(&flags.timeout, "timeout", time.Minute, "with --once: give up after this long")
	flags.log.bind(cmd)

	return cmd
}

// check refuses what would surprise: above all an Omni in clear text that others can reach.
func (f *demoFlags) check() error {
	host, _, err := net.SplitHostPort(f.listen)
	if err != nil {
		return fmt.Errorf("--listen %s: write it like 127.0.0.1:8080", f.listen)
	}

	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--listen %s: the demo's Omni is for this machine only; use 127.0.0.1", f.listen)
	}

	if f.once && f.omniOnly {
		return errors.New("--once and --omni-only exclude each other")
	}

	return nil
}

// demoMachines returns the machines that the machine classes of the examples pick from.
// Those that a template names need not be listed.
func demoMachines() []embedded.Machine {
	var machines []embedded.Machine

	for i, role := range []string{"control-plane", "control-plane", "control-plane", "worker", "worker"} {
		machines = append(machines, embedded.Machine{
			ID:     fmt.Sprintf("5f3a1c00-0000-4000-8000-%012d", 101+i),
			Labels: map[string]string{"role": role},
		})
	}

	return machines
}

// run serves the embedded Omni and, beside it, what the flags ask for.
func (f *demoFlags) run(cmd *cobra.Command, server *embedded.Server, log *zap.Logger) error {
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx) })
	group.Go(func() error {
		defer stop()

		if f.omniOnly {
			return serveOmni(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), server)
		}

		return f.follow(ctx, cmd.OutOrStdout(), server, log)
	})

	return group.Wait()
}

// serveOmni prints what a shell has to evaluate to talk to the server. The key is of no
// use anywhere else: it was made for this process.
func serveOmni(ctx context.Context, out, notes io.Writer, server *embedded.Server) error {
	fmt.Fprintf(out, "export %s=%s\nexport %s=%s\n", envEndpoint, server.Endpoint(), envKey, server.ServiceAccountKey(embedded.AccountOperator))
	fmt.Fprintln(notes, "An Omni without machines is serving until you press Ctrl-C. Paste the two lines into another shell.")
	<-ctx.Done()

	return nil
}

// follow makes the repository and follows it.
func (f *demoFlags) follow(ctx context.Context, out io.Writer, server *embedded.Server, log *zap.Logger) error {
	dir := f.dir

	if dir == "" {
		temp, err := os.MkdirTemp("", "omni-syncd-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp) //nolint:errcheck // a temporary directory

		dir = temp
	}

	repository := filepath.Join(absolute(dir), "fleet")
	if err := makeRepository(repository); err != nil {
		return err
	}

	conn, err := omni.Dial(omni.ConnConfig{Endpoint: server.Endpoint(), ServiceAccountKey: server.ServiceAccountKey(embedded.AccountOperator)})
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection

	fmt.Fprintf(out, "Omni:        %s (in this process)\nRepository:  %s\n\n", server.Endpoint(), repository)

	from := newOrigins("", log, nil)
	defer from.close()

	cfg := &config.Config{Sources: []config.Source{{
		Name: "demo", Git: &config.Git{URL: repository}, Interval: config.Duration(demoInterval), Prune: true, DeleteAfter: new(config.Duration(demoDeleteAfter)),
	}}}
	cfg.SetDefaults()

	sources, err := from.sources(cfg, false)
	if err != nil {
		return err
	}

	engine := sync.Config{Sources: sources, HealthSettle: demoSettle, Logger: log}

	if f.once {
		return drive(ctx, conn, engine, func(ctx context.Context, engine *sync.Engine) error { return f.untilSynced(ctx, out, engine) })
	}

	engine.KeepSuspended = func([]sync.Suspension) error { return nil } // the demo has no next start

	api, err := listenForCalls(filepath.Join(absolute(dir), socketName), &config.Config{}, nil, access.IssuerConfig{Omni: conn, Logger: log}, log)
	if err != nil {
		return err
	}

	return drive(ctx, conn, engine, api.run, func(ctx context.Context, engine *sync.Engine) error {
		return showTables(ctx, out, engine, repository, f.dir == "")
	})
}

// untilSynced waits until every example cluster is Synced and healthy, and prints the table.
func (f *demoFlags) untilSynced(ctx context.Context, out io.Writer, engine *sync.Engine) error {
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, errors.New("the demo did not settle within "+f.timeout.String()))
	defer cancel()

	var last sync.Status

	err := engine.WaitStatus(ctx, func(status sync.Status) bool {
		last = status

		return status.Settled() && (!status.Synced() || healthy(status))
	})
	if err := errors.Join(err, writeTable(out, last)); err != nil {
		return err
	}

	if !last.Synced() {
		return fmt.Errorf("not everything is synced: %s", unsynced(last))
	}

	return nil
}

func healthy(status sync.Status) bool {
	for i := range status.Targets {
		if t := &status.Targets[i]; t.Target != "" && t.Health != sync.Healthy {
			return false
		}
	}

	return true
}

// showTables prints the table whenever things have come to rest, until ctx ends.
func showTables(ctx context.Context, out io.Writer, engine *sync.Engine, repository string, temporary bool) error {
	shown := ""

	err := engine.WaitStatus(ctx, func(status sync.Status) bool {
		now := restingState(status)
		if now == "" || now == shown {
			return false
		}

		fmt.Fprintln(out)

		if err := writeTable(out, status); err != nil {
			return true
		}

		if shown == "" {
			end := "Ctrl-C ends the demo; the repository stays."
			if temporary {
				end = "Ctrl-C ends the demo and removes everything."
			}

			fmt.Fprintf(out, `
Now change something and watch this terminal:

  cd %s
  sed -i 's/v1.34.3/v1.35.0/' edge.yaml
  git commit -am "Upgrade the edge cluster"

Or ask and tell the daemon:

  %s status --socket %s

%s

`, repository, os.Args[0], filepath.Join(filepath.Dir(repository), socketName), end)
		}

		shown = now

		return false
	})
	if ctx.Err() != nil {
		return nil
	}

	return err
}

// restingState identifies what a table would show, and is "" while things still move. What left Git and goes in a while is
// worth showing meanwhile.
func restingState(status sync.Status) string {
	shown := status
	shown.Targets = slices.DeleteFunc(slices.Clone(status.Targets), func(t sync.TargetStatus) bool { return t.Cause == sync.CauseLeaving })

	if !shown.Settled() || len(status.Targets) == 0 || (status.Synced() && !healthy(status)) {
		return ""
	}

	state := ""

	for i := range status.Targets {
		t := &status.Targets[i]
		state += fmt.Sprintln(t.Target, t.Sync, t.Health, t.Revision, t.Message)
	}

	return state
}
