package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/omni-syncd/omni-syncd/pkg/render"
)

func newRender() *cobra.Command {
	var (
		src     sourceFlags
		cluster string
	)

	cmd := &cobra.Command{
		Use:   "render [SOURCE]",
		Short: "Print the Omni resources that templates stand for",
		Long: `Print the Omni resources that the templates below SOURCE stand for, as YAML, in the
order in which they are created. They are those that omnictl cluster template render
prints. No Omni is needed.`,
		Example: `  omni-syncd render clusters/edge.yaml
  omni-syncd render . --cluster edge`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, problems, err := renderOnce(cmd, &src, args)
			if err != nil {
				return err
			}

			found := false

			for _, target := range targets {
				if cluster != "" && target.Name != cluster {
					continue
				}

				found = true

				if err := render.WriteYAML(cmd.OutOrStdout(), target.Resources); err != nil {
					return err
				}
			}

			for _, problem := range problems {
				fmt.Fprintln(cmd.ErrOrStderr(), problem)
			}

			switch {
			case len(problems) > 0:
				return fmt.Errorf("%s", plural(len(problems), "problem"))
			case !found && cluster != "":
				return fmt.Errorf("no template is for the cluster %q", cluster)
			case !found:
				return fmt.Errorf("no cluster template found: a template is a YAML file with a `kind: Cluster` document")
			default:
				return nil
			}
		},
	}

	src.bindScope(cmd)
	cmd.Flags().StringVar(&cluster, "cluster", "", "only the resources of this cluster")

	return cmd
}
