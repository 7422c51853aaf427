package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

// version is set by the linker (make build); a plain `go install` finds it in the
// build information.
var version string

func versionString() string {
	info, ok := debug.ReadBuildInfo()
	if version == "" && ok {
		return info.Main.Version
	}

	if version == "" {
		return "(unknown)"
	}

	return version
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "omni-syncd %s (omni/client %s, %s, %s/%s)\ntested with Omni %s\n",
				versionString(), dependency("github.com/siderolabs/omni/client"), runtime.Version(), runtime.GOOS, runtime.GOARCH,
				omni.Tested())

			return err
		},
	}
}

// dependency returns the version of a module that the binary was built with.
func dependency(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == path {
				return dep.Version
			}
		}
	}

	return "(unknown)"
}
