package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/diff/mask"
	"github.com/omni-syncd/omni-syncd/pkg/report"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// diffFlags are the flags of diff beside those that say what is compared.
type diffFlags struct {
	oneShot

	base, since string
	checkouts   []string

	output  string
	files   []string
	name    string
	fullURL string

	show     bool
	secrets  []string
	detailed bool
}

func newDiff() *cobra.Command {
	var f diffFlags

	cmd := &cobra.Command{
		Use:   "diff [SOURCE]",
		Short: "Show what would change in Omni",
		Long: `Compare the templates with what Omni holds and print the plan that sync would apply, with
its consequences in words. Nothing is written; the Reader role suffices. Secrets are masked.

With --changed-since only the clusters are shown that the checked-out commits change since
they left a branch. With --base that step itself is shown, and no Omni is asked: for pull
requests from forks, which get no credentials.

Exits 0 without a difference, 1 with one, and 2 on an error, as kubectl diff does;
with --detailed-exitcode 0, 2 and 1, as terraform plan does.`,
		Example: `  omni-syncd diff ./clusters
  omni-syncd diff https://git.example.com/platform/fleet.git --path clusters
  omni-syncd diff ./clusters --changed-since origin/main --output markdown
  omni-syncd diff --config omni-syncd.yaml --checkout fleet=. --output-file markdown=plan.md --output-file json=plan.json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			different, failed := f.codes()
			differs, err := f.run(cmd, args)

			switch {
			case err != nil:
				return &exitError{failed, err}
			case differs:
				return &exitError{code: different}
			default:
				return nil
			}
		},
	}

	// Wrong words on the command line are errors too, and not differences.
	args := cmd.Args
	wrong := func(err error) error {
		_, failed := f.codes()

		return asExit(failed, err)
	}
	cmd.Args = func(cmd *cobra.Command, words []string) error { return wrong(args(cmd, words)) }
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		// What stands behind the wrong word was not read.
		f.detailed = f.detailed || slices.Contains(os.Args, "--detailed-exitcode")

		return wrong(err)
	})

	f.bind(cmd, "error")
	f.src.bindDeleteAfter(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.base, "base", "", "show what changed since HEAD left this branch or commit, without an Omni")
	flags.StringVar(&f.since, "changed-since", "", "only clusters that changed since HEAD left this branch or commit")
	flags.StringSliceVar(&f.checkouts, "checkout", nil, "SOURCE=DIR: read a source of --config from a directory; DIR is enough if there is one source")
	flags.StringVarP(&f.output, "output", "o", "text", "how the plan is printed: "+strings.Join(diffOutputs, ", "))
	flags.StringArrayVar(&f.files, "output-file", nil, "FORMAT=FILE: write it to a file, too; may be given several times")
	flags.StringVar(&f.name, "report-name", "", "with markdown: tells comments of several reports in one pull request apart")
	flags.StringVar(&f.fullURL, "full-report-url", "", "with markdown: where the whole report is, for what does not fit a comment")
	flags.BoolVar(&f.show, "show-secrets", false, "do not mask secrets; only as text on a terminal")
	flags.StringSliceVar(&f.secrets, "secret", nil, "further keys whose values are secret: licenseKey, machine/sysctls/*, **/vault/*")
	flags.BoolVar(&f.detailed, "detailed-exitcode", false, "exit 2 with a difference and 1 on an error")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(diffOutputs, cobra.ShellCompDirectiveNoFileComp))

	return cmd
}

// codes are the exit codes for a difference and for an error.
func (f *diffFlags) codes() (different, failed int) {
	if f.detailed {
		return 2, 1
	}

	return 1, 2
}

// run makes the plan and writes it. Its error is about the connection, or says that the plan
// lacks what is broken.
func (f *diffFlags) run(cmd *cobra.Command, args []string) (differs bool, err error) {
	if err := f.check(cmd); err != nil {
		return false, err
	}

	cfg, err := f.src.load(cmd, args)
	if err != nil {
		return false, err
	}

	if err := checkOut(cfg, f.checkouts); err != nil {
		return false, err
	}

	r, err := f.review(cmd, cfg)
	if err != nil {
		return false, err
	}

	problems := sourceProblems(cmd.ErrOrStderr(), r.status)
	out := r.report(f.name, mask.Options{Show: f.show, Declared: f.secrets})

	if err := f.write(cmd.OutOrStdout(), r, out); err != nil {
		return false, err
	}

	return out.Different(), problemsError(problems + r.broken)
}

// review makes the plan that the flags ask for.
func (f *diffFlags) review(cmd *cobra.Command, cfg *config.Config) (*review, error) {
	if f.base != "" {
		return f.between(cmd, cfg, f.base)
	}

	r, err := f.live(cmd, cfg)
	if err == nil && f.since != "" {
		err = f.onlyChanged(cmd, r, f.since)
	}

	return r, err
}

// diffOutputs are the forms of a plan.
var diffOutputs = []string{"text", "markdown", "json", "sarif"}

// check refuses flags that mean nothing, before anything is fetched.
func (f *diffFlags) check(cmd *cobra.Command) error {
	formats := []string{f.output}

	for _, word := range f.files {
		format, file, ok := strings.Cut(word, "=")
		if !ok || file == "" {
			return fmt.Errorf("--output-file %s: write FORMAT=FILE, like markdown=plan.md", word)
		}

		formats = append(formats, format)
	}

	for _, format := range formats {
		if !slices.Contains(diffOutputs, format) {
			return fmt.Errorf("the output %q is unknown: use one of %s", format, strings.Join(diffOutputs, ", "))
		}
	}

	switch {
	case f.base != "" && f.since != "":
		return errors.New("--base and --changed-since exclude each other: --base shows nothing but what changed")
	case len(f.checkouts) > 0 && f.src.config == "":
		return errors.New("--checkout is for the sources of --config; without it name the directory itself")
	case f.show && (f.output != "text" || len(f.files) > 0 || !isTerminal(cmd.OutOrStdout())):
		return errors.New("--show-secrets is for text on a terminal only: what is written elsewhere stays there")
	case f.timeout <= 0:
		return fmt.Errorf("--timeout %s: it must be longer than nothing", f.timeout)
	}

	return mask.Options{Declared: f.secrets}.Validate()
}

// write writes the plan to stdout and to the files, in the form that each asks for.
func (f *diffFlags) write(stdout io.Writer, r *review, out *diff.Report) error {
	if err := f.writeAs(stdout, f.output, r, out, diff.TextOptions{Color: useColor(stdout), Lines: true, Mask: out.Mask}); err != nil {
		return err
	}

	for _, word := range f.files {
		format, file, _ := strings.Cut(word, "=")

		var text bytes.Buffer
		if err := f.writeAs(&text, format, r, out, diff.TextOptions{Lines: true, Mask: out.Mask}); err != nil {
			return err
		}

		if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
			return fmt.Errorf("--output-file: %w", err)
		}
	}

	return nil
}

func (f *diffFlags) writeAs(w io.Writer, format string, r *review, out *diff.Report, text diff.TextOptions) error {
	switch format {
	case "markdown":
		return diff.WriteMarkdown(w, out, diff.MarkdownOptions{FullURL: f.fullURL})
	case "json":
		return diff.WriteJSON(w, out)
	case "sarif":
		return writeSARIF(w, out)
	}

	if err := diff.WriteReport(w, out, text); err != nil {
		return err
	}

	return writeNoDifference(w, r.status)
}

func writeSARIF(w io.Writer, out *diff.Report) error {
	rules := diff.Rules()
	maps.Copy(rules, template.Rules)
	rules[ruleRefused] = "Omni would refuse the change."
	rules[ruleSource] = "The source could not be read."

	var log bytes.Buffer
	if err := report.WriteSARIF(&log, out.Findings(), report.SARIFOptions{Version: versionString(), Rules: rules}); err != nil {
		return err
	}

	_, err := w.Write(report.PrintableJSON(log.Bytes()))

	return err
}

// writePlans writes the plan of every target and reports whether one holds a difference.
func writePlans(w io.Writer, status sync.Status) error {
	for i := range status.Targets {
		if t := &status.Targets[i]; t.Plan != nil { // else the template is broken; its problems were printed
			if err := diff.WriteText(w, t.Plan, diff.TextOptions{Color: useColor(w), Lines: true, Path: t.Path, Held: held(t)}); err != nil {
				return err
			}
		}
	}

	return writeNoDifference(w, status)
}

// writeNoDifference says so if that is how it is, and how much was compared.
func writeNoDifference(w io.Writer, status sync.Status) error {
	compared := 0

	for i := range status.Targets {
		switch t := &status.Targets[i]; {
		case t.Plan == nil:
		case !t.Plan.Empty():
			return nil
		default:
			compared++
		}
	}

	var err error

	switch {
	case compared < len(status.Targets):
		_, err = fmt.Fprintf(w, "no difference in the %d of %s that could be compared\n", compared, plural(len(status.Targets), "target"))
	default:
		_, err = fmt.Fprintf(w, "no difference: %s compared\n", plural(compared, "target"))
	}

	return err
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
