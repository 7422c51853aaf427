package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/report"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// The forms in which validate reports.
var validateOutputs = []string{"text", "json", "sarif", "github", "gitlab"}

func newValidate() *cobra.Command {
	var (
		src          sourceFlags
		output, base string
	)

	cmd := &cobra.Command{
		Use:   "validate [SOURCE]",
		Short: "Check templates without an Omni",
		Long: `Check every template and manifest below SOURCE and print all problems at once, one
per line as file:line:column: message; on a terminal with the line and a caret below.

SOURCE is a directory, a file or a Git URL; the current directory if left out.

With --output json, sarif (SARIF 2.1.0), github (annotations of GitHub Actions) or
gitlab (a code quality report), files are named relative to the root of the Git
repository that they are in, as those services want them.

Exits 0 without a problem, 1 with one, and 2 if nothing could be checked.`,
		Example: `  omni-syncd validate ./clusters
  omni-syncd validate ./clusters --output github
  omni-syncd validate https://git.example.com/platform/fleet.git --path clusters`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(validateOutputs, output) {
				return &exitError{2, fmt.Errorf("--output %q: use one of %s", output, strings.Join(validateOutputs, ", "))}
			}

			// What ends this early is no problem of a template: nothing was checked.
			err := lookOffline(cmd, &src, args, func(found *offline) error {
				return found.validate(cmd, output, base)
			})

			return asValidation(err)
		},
	}

	// Wrong words on the command line are errors too, and not problems of a template.
	args := cmd.Args
	cmd.Args = func(cmd *cobra.Command, words []string) error { return asExit(2, args(cmd, words)) }
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return asExit(2, err) })

	src.bindScope(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "how problems are printed: "+strings.Join(validateOutputs, ", "))
	cmd.Flags().StringVar(&base, "base-path", "", "folder that files are named relative to (default: the Git repository's; for text as SOURCE is named)")

	return cmd
}

// policyAnnotations are the annotations that people write. Our own marks, which an exported template has, say nothing.
var policyAnnotations = template.Annotations{
	Prefix: "omni-syncd/",
	Known: map[string][]string{
		sync.AnnotationSuspend:  {"true", "false"},
		sync.AnnotationSync:     {"manual", "auto"},
		sync.AnnotationPrune:    {"disabled", "enabled"},
		sync.AnnotationDeletion: {"protected", "orphan", "allowed"},
		diff.AnnotationHandover: nil,
	},
	InManifests: []string{sync.AnnotationDeletion},
	Ignored:     diff.IsMark,
}

// problemsFound is the error of a validation that did its work.
type problemsFound int

func (n problemsFound) Error() string { return plural(int(n), "problem") }

// asValidation gives an error the exit code of validate.
func asValidation(err error) error {
	if errors.As(err, new(problemsFound)) {
		return asExit(1, err)
	}

	return asExit(2, err)
}

// offline is what the stages that need no Omni make of one revision of a source. The files of the problems are named as
// in the revision.
type offline struct {
	source   config.Source
	files    fs.FS
	set      *template.Set
	targets  []*render.Target
	problems template.Problems
}

// lookOffline takes one revision of a source through the stages that need no Omni. The revision can be read until use
// returns.
func lookOffline(cmd *cobra.Command, src *sourceFlags, args []string, use func(*offline) error) error {
	arg := "."
	if len(args) > 0 {
		arg = args[0]
	}

	cfg, err := src.single(arg)
	if err != nil {
		return err
	}

	from := newOrigins("", zap.NewNop(), nil)
	defer from.close()

	opened, err := from.open(&cfg)
	if err != nil {
		return err
	}

	ctx := cmd.Context()
	hide := whileShowing(ctx, consoleOf(cmd), func() (string, string) { return "fetching " + arg, "" })
	defer hide()

	revision, err := opened.Fetch(ctx)
	if err != nil {
		return err
	}

	set, problems := template.Find(revision.FS, scopeOf(&cfg))
	targets, refused := render.New().Render(ctx, set)

	hide() // nothing may draw over what is printed now

	return use(&offline{cfg, revision.FS, set, targets, append(problems, refused...).Sorted()})
}

// renderOnce returns the targets of one revision of a source, and its problems under the names by which the person who
// named the source finds the files.
func renderOnce(cmd *cobra.Command, src *sourceFlags, args []string) (targets []*render.Target, problems template.Problems, err error) {
	err = lookOffline(cmd, src, args, func(found *offline) error {
		rename, err := found.namer("text", "")
		for _, problem := range found.problems {
			problems = append(problems, problem.Moved(rename))
		}

		targets = found.targets

		return err
	})

	return targets, problems.Sorted(), err
}

// validate reports the problems in a form, with the files named relative to a folder.
func (o *offline) validate(cmd *cobra.Command, output, base string) error {
	o.problems = append(o.problems, o.set.CheckAnnotations(policyAnnotations)...).Sorted()

	if len(o.problems) == 0 && len(o.targets) == 0 {
		return errors.New("no cluster template found: a template is a YAML file with a `kind: Cluster` document")
	}

	rename, err := o.namer(output, base)
	if err != nil {
		return err
	}

	if err := o.write(cmd.OutOrStdout(), output, rename); err != nil {
		return err
	}

	if n := len(o.problems); n > 0 {
		return problemsFound(n)
	}

	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s, no problem\n", describeTargets(o.targets))

	return err
}

// write prints the problems and notes in a form.
func (o *offline) write(w io.Writer, output string, rename func(string) string) error {
	var findings []report.Finding

	original := map[string]string{}

	add := func(level report.Level, problem template.Problem) {
		moved := problem.Moved(rename)
		original[moved.File] = problem.File

		findings = append(findings, report.Finding{
			Rule: string(cmp.Or(moved.Rule, template.RuleInvalid)), Level: level, Message: moved.Message,
			File: moved.File, Line: moved.Line, Column: moved.Column,
		})
	}

	for _, problem := range o.problems {
		add(report.Error, problem)
	}

	for _, t := range o.targets {
		for _, note := range t.Notes {
			add(report.Note, note)
		}
	}

	switch output {
	case "json":
		return report.WriteJSON(w, findings)
	case "github":
		return report.WriteGitHub(w, findings)
	case "gitlab":
		return report.WriteGitLab(w, findings)
	case "sarif":
		var log bytes.Buffer
		if err := report.WriteSARIF(&log, findings, report.SARIFOptions{Version: versionString(), Rules: template.Rules}); err != nil {
			return err
		}

		_, err := w.Write(report.PrintableJSON(log.Bytes()))

		return err
	}

	opts := report.TextOptions{Color: useColor(w)}

	if file, ok := w.(*os.File); ok && isTerminal(w) {
		opts.Width, _, _ = term.GetSize(int(file.Fd())) // 0 is a width, too
		opts.Line = linesOf(o.files, original)
	}

	return report.WriteText(w, findings, opts)
}

// linesOf returns what gives lines of files, whose names in the revision are given. It keeps the file it read last:
// findings are sorted.
func linesOf(files fs.FS, names map[string]string) func(string, int) (string, bool) {
	var (
		last  string
		lines func(int) (string, bool)
	)

	return func(name string, line int) (string, bool) {
		if lines == nil || name != last {
			file, err := files.Open(names[name])
			if err != nil {
				return "", false
			}
			defer file.Close() // only read from

			data, err := io.ReadAll(io.LimitReader(file, template.MaxReferenceSize))
			if err != nil {
				return "", false
			}

			last, lines = name, template.Lines(data)
		}

		return lines(line)
	}
}

// namer returns what names a file of the revision: for people as they named the source, for services relative to the root
// of the repository, and relative to base if that is given. What is read from a Git repository is named so already.
func (o *offline) namer(output, base string) (func(string) string, error) {
	if o.source.Dir == nil {
		if base != "" {
			return nil, errors.New("--base-path is for a directory; the files of a Git repository are named relative to its root")
		}

		return func(file string) string { return file }, nil
	}

	dir := o.source.Dir.Path
	if output == "text" && base == "" {
		return func(file string) string { return filepath.Join(dir, filepath.FromSlash(file)) }, nil
	}

	root, err := filepath.Abs(cmp.Or(base, repositoryOf(dir), "."))
	if err != nil {
		return nil, err
	}

	prefix, err := filepath.Rel(root, absolute(dir))
	if err != nil || !filepath.IsLocal(prefix) && base != "" {
		return nil, fmt.Errorf("--base-path %s: %s is not below it", base, dir)
	}

	return func(file string) string {
		if file == "" {
			return ""
		}

		return path.Join(filepath.ToSlash(prefix), file)
	}, nil
}

// repositoryOf returns the root of the Git work tree that a folder is in, or "".
func repositoryOf(dir string) string {
	for at := absolute(dir); ; at = filepath.Dir(at) {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil { // a file in a linked work tree
			return at
		}

		if at == filepath.Dir(at) {
			return ""
		}
	}
}

func describeTargets(targets []*render.Target) string {
	clusters, resources := 0, 0

	for _, t := range targets {
		if t.Name != "" {
			clusters++
		}

		resources += len(t.Resources)
	}

	return plural(clusters, "cluster template") + ", " + plural(resources, "resource")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}

	return fmt.Sprintf("%d %ss", n, noun)
}
