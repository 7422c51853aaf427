package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/render"
	"github.com/omni-syncd/omni-syncd/pkg/template"
)

func newValidate() *cobra.Command {
	var src sourceFlags

	cmd := &cobra.Command{
		Use:   "validate [SOURCE]",
		Short: "Check templates without an Omni",
		Long: `Check every template and manifest below SOURCE and print all problems at once, one
per line as file:line:column: message. Exits 1 if there is one.

SOURCE is a directory, a file or a Git URL; the current directory if left out.`,
		Example: `  omni-syncd validate ./clusters
  omni-syncd validate https://git.example.com/platform/fleet.git --path clusters`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, problems, err := renderOnce(cmd, &src, args)
			if err != nil {
				return err
			}

			for _, problem := range problems {
				fmt.Fprintln(cmd.OutOrStdout(), problem)
			}

			if len(problems) > 0 {
				return fmt.Errorf("%s", plural(len(problems), "problem"))
			}

			if len(targets) == 0 {
				return fmt.Errorf("no cluster template found: a template is a YAML file with a `kind: Cluster` document")
			}

			fmt.Fprintf(cmd.ErrOrStderr(), "%s, no problem\n", describeTargets(targets))

			return nil
		},
	}

	src.bindScope(cmd)

	return cmd
}

// renderOnce takes one revision of a source through the stages that need no Omni.
func renderOnce(cmd *cobra.Command, src *sourceFlags, args []string) ([]*render.Target, template.Problems, error) {
	arg := "."
	if len(args) > 0 {
		arg = args[0]
	}

	cfg, err := src.single(arg)
	if err != nil {
		return nil, nil, err
	}

	from := newOrigins("", zap.NewNop(), nil)
	defer from.close()

	opened, err := from.open(&cfg)
	if err != nil {
		return nil, nil, err
	}

	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()

	go showProgress(ctx, consoleOf(cmd), func() (string, string) { return "fetching " + arg, "" })

	revision, err := opened.Fetch(ctx)
	if err != nil {
		return nil, nil, err
	}

	set, problems := template.Find(revision.FS, scopeOf(&cfg))
	targets, refused := render.New().Render(ctx, set)

	problems = append(problems, refused...)

	if cfg.Dir != nil {
		problems = inDirectory(cfg.Dir.Path, problems)
	}

	return targets, problems.Sorted(), nil
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
