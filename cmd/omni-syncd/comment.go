package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/forge"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

// Exit codes of comment, besides 0.
const (
	commentFailed  = 1 // the server does not answer, or not as it should
	commentWrong   = 2 // wrong words on the command line, a file or a variable that is missing
	commentRefused = 3 // the token may not write: what a pull request from a fork looks like
)

// maxSummary is how large the summary of a step may be on GitHub, all that is appended together.
const maxSummary = 1 << 20

type commentFlags struct {
	name, on, project, caFile  string
	number                     int
	onlyUpdate, remove, dryRun bool
	timeout                    time.Duration
}

func newComment() *cobra.Command {
	var flags commentFlags

	cmd := &cobra.Command{
		Use:   "comment FILE",
		Short: "Write a plan into the pull request it is about",
		Long: `Write the Markdown in FILE, made by diff -o markdown, as a comment of the pull request
(on GitLab: a note of the merge request) that this CI job is about. If this account wrote
one of the same name before, that is updated. Comments of others are never touched.

Which pull request it is, is read from the job's environment. The token is read from
GITHUB_TOKEN or GITLAB_TOKEN. A job that is about no pull request writes nothing and
exits 0; so does a job whose pull request has a newer commit by now.

On GitHub, the Markdown is also appended to the job's summary (GITHUB_STEP_SUMMARY).

Exits 0 if all is as it should be, 1 if the server does not answer, 2 if something is
missing or wrong here, and 3 if the token may not write: see "Forks" in
docs/pull-requests.md.`,
		Example: `  omni-syncd diff ./clusters -o markdown > plan.md
  omni-syncd comment plan.md`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asComment(flags.run(cmd, args))
		},
	}

	// Wrong words on the command line have their own code here.
	args := cmd.Args
	cmd.Args = func(cmd *cobra.Command, words []string) error { return asExit(commentWrong, args(cmd, words)) }
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return asExit(commentWrong, err) })

	f := cmd.Flags()
	f.StringVar(&flags.name, "name", "", "name of the report (default: as FILE says in its first line)")
	f.StringVar(&flags.on, "on", "", "github or gitlab (default: whose job this is)")
	f.StringVar(&flags.project, "project", "", "OWNER/NAME, or GROUP/NAME or number on GitLab (default: the job's)")
	f.IntVar(&flags.number, "pull-request", 0, "number of the pull or merge request (default: the job's)")
	f.BoolVar(&flags.onlyUpdate, "only-update", false, "if there is no comment yet, write none")
	f.BoolVar(&flags.remove, "delete", false, "delete the comment instead; FILE may be left out then, with --name")
	f.BoolVar(&flags.dryRun, "dry-run", false, "say what would be written where, and ask no server")
	f.StringVar(&flags.caFile, "ca-file", "", "certificates (PEM) to trust besides the system's")
	f.DurationVar(&flags.timeout, "timeout", 3*time.Minute, "give up after this long")

	return cmd
}

// asComment gives an error the exit code of comment.
func asComment(err error) error {
	var (
		exit    *exitError
		refused *forge.Refused
	)

	switch {
	case errors.As(err, &exit):
		return err
	case errors.As(err, &refused):
		return asExit(commentRefused, err)
	default:
		return asExit(commentWrong, err)
	}
}

func (f *commentFlags) run(cmd *cobra.Command, args []string) error {
	comment, err := f.read(args)
	if err != nil {
		return err
	}

	// The summary is not for the pull request only, and needs no token.
	if path := os.Getenv("GITHUB_STEP_SUMMARY"); path != "" && comment.Body != "" && !f.dryRun {
		if err := appendSummary(path, comment.Body); err != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning: the summary of the job:", err)
		}
	}

	pr, err := f.pullRequest()

	switch {
	case errors.Is(err, forge.ErrNoPullRequest):
		fmt.Fprintln(cmd.ErrOrStderr(), err)

		return nil
	case err != nil && !f.dryRun:
		return err
	}

	if f.dryRun {
		return f.show(cmd, pr, err, comment)
	}

	roots, err := omni.RootCAs(f.caFile)
	if err != nil {
		return err
	}

	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}

	ctx, cancel := context.WithTimeoutCause(cmd.Context(), f.timeout, fmt.Errorf("not done after %s", f.timeout))
	defer cancel()

	client := forge.Client{Transport: transport, UserAgent: "omni-syncd/" + versionString()}

	result, err := client.Post(ctx, pr, comment)

	refused := new(forge.Refused)

	switch {
	case errors.Is(err, forge.ErrNoPullRequest):
		fmt.Fprintln(cmd.ErrOrStderr(), err)

		return nil
	case errors.As(err, &refused):
		return err
	case err != nil:
		return asExit(commentFailed, err)
	}

	return sayOutcome(cmd, result)
}

// sayOutcome writes what was done, and where it can be seen as data.
func sayOutcome(cmd *cobra.Command, result forge.Result) error {
	switch result.Outcome {
	case forge.Outdated:
		fmt.Fprintln(cmd.ErrOrStderr(), "the pull request has a newer commit; its job writes the comment")
	case forge.Nothing:
		fmt.Fprintln(cmd.ErrOrStderr(), "there is no comment, and none is needed")
	default:
		fmt.Fprintln(cmd.ErrOrStderr(), "comment", result.Outcome)
	}

	if result.URL == "" {
		return nil
	}

	_, err := fmt.Fprintln(cmd.OutOrStdout(), result.URL)

	return err
}

// show says what would be done.
func (f *commentFlags) show(cmd *cobra.Command, pr forge.PullRequest, missing error, comment forge.Comment) error {
	if missing != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", missing)
	}

	what := fmt.Sprintf("write %d bytes under %s", len(comment.Body), comment.Marker)
	if comment.Body == "" {
		what = "delete what is under " + comment.Marker
	}

	request := fmt.Sprint("number ", pr.Number)
	if pr.Number == 0 {
		request = "the one of the branch " + fmt.Sprintf("%q", pr.From.Branch)
	}

	_, err := fmt.Fprintf(cmd.OutOrStdout(), "would %s\non %s, %s, pull request %s\n", what, pr.API, pr.Project, request)

	return err
}

func (f *commentFlags) pullRequest() (forge.PullRequest, error) {
	if f.number < 0 {
		return forge.PullRequest{}, fmt.Errorf("--pull-request %d: it is a number from 1", f.number)
	}

	kind := forge.Kind(f.on)
	if kind == "" {
		kind = forge.Detect(os.Getenv)
	}

	return forge.FromEnvironment(os.Getenv, forge.PullRequest{Kind: kind, Project: f.project, Number: f.number})
}

// marker is what diff.Marker makes.
var marker = regexp.MustCompile(`^<!-- omni-syncd:plan:([A-Za-z0-9._/ -]{1,300}) -->$`)

// read returns the comment that the command line asks for.
func (f *commentFlags) read(args []string) (forge.Comment, error) {
	comment := forge.Comment{OnlyUpdate: f.onlyUpdate}
	if f.name != "" {
		comment.Marker = diff.Marker(f.name)
	}

	switch {
	case len(args) == 1:
	case f.remove && f.name != "":
		return comment, nil
	default:
		return comment, errors.New("which file? name the Markdown of a plan, like `omni-syncd comment plan.md`; `omni-syncd diff -o markdown` makes one")
	}

	text, err := readBounded(args[0])
	if err != nil {
		return comment, err
	}

	first, _, _ := strings.Cut(text, "\n")
	first = strings.TrimRight(first, "\r ")

	switch found := marker.MatchString(first); {
	case !found && f.name == "":
		return comment, fmt.Errorf("the first line of %s is no marker: make the file with `omni-syncd diff -o markdown`, or say --name NAME", args[0])
	case found && f.name != "" && first != comment.Marker:
		return comment, fmt.Errorf("%s is a report of another name: it begins with %s, and --name %s makes %s", args[0], first, f.name, comment.Marker)
	case found:
		comment.Marker, comment.Body = first, text
	default:
		comment.Body = comment.Marker + "\n" + text
	}

	if n := len([]rune(comment.Body)); n > forge.MaxBody {
		return comment, fmt.Errorf("%s has %d characters, a comment may have %d: `omni-syncd diff -o markdown` makes one that fits", args[0], n, forge.MaxBody)
	}

	if f.remove {
		comment.Body = ""
	}

	return comment, nil
}

// readBounded reads a file that is small, or says that it is not.
func readBounded(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // only read from

	data, err := io.ReadAll(io.LimitReader(file, maxSummary+1))
	if err != nil {
		return "", err
	}

	if len(data) > maxSummary {
		return "", fmt.Errorf("%s is larger than %d KiB, and no comment", path, maxSummary>>10)
	}

	return strings.ToValidUTF8(string(data), "\uFFFD"), nil
}

// appendSummary adds the Markdown to the summary of a step. GitHub drops a summary as a
// whole that is too large, so what does not fit any more is not added.
func appendSummary(path, text string) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}

	info, err := file.Stat()
	if err == nil && info.Size()+int64(len(text))+2 > maxSummary {
		err = fmt.Errorf("it holds %d KiB already; with this it would be larger than GitHub takes (%d KiB)", info.Size()>>10, maxSummary>>10)
	}

	if err == nil {
		_, err = io.WriteString(file, text+"\n")
	}

	return cmp.Or(err, file.Close())
}
