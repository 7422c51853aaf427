package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// codeInterrupted is what a shell reports of a program that SIGINT ended.
const codeInterrupted = 130

// exitError ends the program with a code of its own. A nil err prints nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}

	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// asExit gives an error an exit code; nil stays nil.
func asExit(code int, err error) error {
	if err == nil {
		return nil
	}

	return &exitError{code, err}
}

// execute runs one command line and returns the exit code: what the verb says, else 1.
// Data goes to stdout, everything else to stderr.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(newConsole(stderr))

	err := root.ExecuteContext(ctx)

	// What a signal cut off reports in many ways; people know why.
	if err != nil && ctx.Err() != nil {
		err = &exitError{codeInterrupted, errors.New("interrupted")}
	}

	var exit *exitError

	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintln(stderr, "error:", exit.err)
		}

		return exit.code
	default:
		fmt.Fprintln(stderr, "error:", err)

		return 1
	}
}

// exactly wants one argument, and asks for it in words.
func exactly(question string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return errors.New(question)
		}

		return cobra.ExactArgs(1)(cmd, args)
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "omni-syncd",
		Short: "Make Sidero Omni follow Git",
		Long: `omni-syncd makes Sidero Omni follow Git: it reads cluster templates from a Git
repository or a directory, compares them with what Omni holds, and applies the
smallest change, once or continuously.

Omni is named by OMNI_ENDPOINT and OMNI_SERVICE_ACCOUNT_KEY, as for omnictl.
Try it without one:  omni-syncd demo`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}

	root.AddCommand(newRun(), newDemo(), newValidate(), newRender(), newDiff(), newSync(), newSchema(), newVersion(),
		newStatus(), newReconcile(), newConfirm(), newSuspend(), newResume(), newHistory(), newKubeconfig(), newTalosconfig(), newToken(), newComment())

	return root
}
