package main

import (
	"github.com/spf13/cobra"

	"github.com/omni-syncd/omni-syncd/pkg/template/schema"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of cluster templates, for editors",
		Long: `Print the JSON Schema (draft 7) of a cluster template, as this version of omni-syncd
takes it. With it an editor completes keys, shows what they mean, and marks wrong ones.

It judges each document by itself; what is wrong between documents and files, and in
the files a template refers to, validate finds.`,
		Example: `  omni-syncd schema > cluster-template.schema.json
  # and in the first line of a template:
  # yaml-language-server: $schema=../cluster-template.schema.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := schema.JSON()
			if err != nil {
				return err
			}

			_, err = cmd.OutOrStdout().Write(text)

			return err
		},
	}
}
