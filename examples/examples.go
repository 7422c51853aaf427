// Package examples holds the cluster templates that the demo starts from. They are
// ordinary templates: copy them into a repository of your own.
package examples

import "embed"

// Templates is the folder templates, as the root of a Git repository would hold it.
//
//go:embed all:templates
var Templates embed.FS
