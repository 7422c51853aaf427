// Dashboard checks dashboards against Grafana's own schema: what is unknown, lacking or of a
// wrong type is an error, in every panel, too. Usage: dashboard FILE...
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()

	code := 0

	for _, file := range os.Args[1:] {
		if err := check(file); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)

			code = 1
		}
	}

	os.Exit(code)
}

func check(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}

	var (
		d    dashboard.Dashboard
		list cog.BuildErrors
	)

	// It returns an empty list of errors where others return nil.
	if err := d.UnmarshalJSONStrict(raw); err != nil && !(errors.As(err, &list) && len(list) == 0) {
		return err
	}

	return d.Validate()
}
