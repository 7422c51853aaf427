package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

func newDiff() *cobra.Command {
	var (
		once     oneShot
		detailed bool
	)

	cmd := &cobra.Command{
		Use:   "diff [SOURCE]",
		Short: "Show what would change in Omni",
		Long: `Compare the templates with what Omni holds and print the plan that sync would apply.
Nothing is written; the Reader role suffices.

Exits 0 without a difference, 1 with one, and 2 on an error, as kubectl diff does;
with --detailed-exitcode 0, 2 and 1, as terraform plan does.`,
		Example: `  omni-syncd diff ./clusters
  omni-syncd diff https://git.example.com/platform/fleet.git --path clusters`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			different, failed := 1, 2
			if detailed {
				different, failed = failed, different
			}

			status, err := once.pass(cmd, args, true)
			if err != nil {
				return &exitError{failed, err}
			}

			problems := sourceProblems(cmd.ErrOrStderr(), status)

			differs, err := writePlans(cmd.OutOrStdout(), status)

			switch {
			case err != nil:
				return &exitError{failed, err}
			case problems > 0:
				return &exitError{failed, problemsError(problems)}
			case differs:
				return &exitError{code: different}
			default:
				return nil
			}
		},
	}

	// Wrong words on the command line are errors too, and not differences.
	args := cmd.Args
	cmd.Args = func(cmd *cobra.Command, words []string) error { return asExit(2, args(cmd, words)) }
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return asExit(2, err) })

	once.bind(cmd, "error")
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 2 with a difference and 1 on an error")

	return cmd
}

// writePlans writes the plan of every target and reports whether one holds a difference.
func writePlans(w io.Writer, status sync.Status) (differs bool, err error) {
	compared := 0

	for i := range status.Targets {
		t := &status.Targets[i]
		if t.Plan == nil {
			continue // a broken template; its problems were printed
		}

		compared++

		differs = differs || !t.Plan.Empty()

		opts := diff.TextOptions{Color: useColor(w), Lines: true, Path: t.Path, Held: held(t)}
		if err := diff.WriteText(w, t.Plan, opts); err != nil {
			return differs, err
		}
	}

	switch {
	case differs:
	case compared < len(status.Targets):
		_, err = fmt.Fprintf(w, "no difference in the %d of %s that could be compared\n", compared, plural(len(status.Targets), "target"))
	default:
		_, err = fmt.Fprintf(w, "no difference: %s compared\n", plural(compared, "target"))
	}

	return differs, err
}

// held returns why a plan would not be applied, unless the plan itself says so already.
func held(t *sync.TargetStatus) string {
	plan := t.Plan
	if len(plan.Changes) == 0 || plan.Locked || len(plan.Conflicts) > 0 || t.Message == plan.Summary() {
		return ""
	}

	return t.Message
}

func problemsError(n int) error {
	switch n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("1 problem was found; the rest is shown without it")
	default:
		return fmt.Errorf("%d problems were found; the rest is shown without them", n)
	}
}

// unsynced names the targets that are not Synced.
func unsynced(status sync.Status) string {
	var names []string

	for i := range status.Targets {
		if t := &status.Targets[i]; t.Sync != sync.Synced {
			names = append(names, targetName(t))
		}
	}

	if len(names) == 0 {
		return "a source has problems"
	}

	return joinNames(names)
}

// maxNames bounds how many names one line holds.
const maxNames = 5

func joinNames(names []string) string {
	line := ""

	for i, name := range names {
		switch {
		case i == maxNames:
			return fmt.Sprintf("%s and %d more", line, len(names)-maxNames)
		case i > 0:
			line += ", "
		}

		line += name
	}

	return line
}
