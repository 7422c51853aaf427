package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
)

// defaultTokenLife is for how long a token is good unless somebody says otherwise.
const defaultTokenLife = "90d"

func newToken() *cobra.Command {
	var (
		roles    []string
		clusters []string
		expires  string
		output   string
	)

	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token for the daemon's API",
		Long: `Make a token for the daemon's API and print it, once: it is kept nowhere. NAME is for the
audit log.

The token goes to stdout, or with -o into a new file that only its owner may read; a file of the
shell's (>) is one that others may read. The entry for the daemon's token file goes to stderr: add it
there, and the daemon knows the token within a second. The entry holds a hash only and is no secret.

Roles: viewer sees status, plans and history; operator is a viewer that reconciles, confirms
and suspends; access gets kubeconfig and talosconfig, and nothing else. Without --clusters they are
for everything.`,
		Example: `  omni-syncd token ci --clusters 'staging-*'
  omni-syncd token oncall --role operator --role access --expires 30d
  omni-syncd token ci --clusters staging,prod -o ci.token`,
		Args: exactly("whose token? give a name for the audit log, for instance `omni-syncd token ci`"),
		RunE: func(cmd *cobra.Command, args []string) error {
			entry, err := tokenEntry(args[0], roles, globs(clusters), expires, time.Now())
			if err != nil {
				return err
			}

			if output == "-" {
				output = ""
			}

			if err := isNew(output); err != nil {
				return err
			}

			token, hash, err := auth.NewToken()
			if err != nil {
				return err
			}

			entry.Hash = hash

			// A list of one: it fits below `tokens:`, and behind other entries.
			text, err := yaml.Marshal([]auth.Token{entry})
			if err != nil {
				return fmt.Errorf("write the entry of the token: %w", err)
			}

			where := ""

			if output != "" {
				if err := access.WriteFile(output, []byte(token+"\n"), false); err != nil {
					return fmt.Errorf("write the token: %w", err)
				}

				where = fmt.Sprintf("# The token is in %q.\n", output)
			}

			if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s# Add this below `tokens:` in the token file of the daemon.\n%s", where, text); err != nil || where != "" {
				return err
			}

			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)

			return err
		},
	}

	flags := cmd.Flags()
	flags.StringArrayVar(&roles, "role", []string{string(auth.Viewer)}, "viewer, operator or access; can be given several times")
	flags.StringSliceVar(&clusters, "clusters", nil, "globs for the names of the clusters that it is for, with commas between them (default: everything)")
	flags.StringVarP(&output, "output", "o", "", "write the token to this new file, for its owner only, and not to stdout (-)")
	flags.StringVar(&expires, "expires", defaultTokenLife, "for how long it is good, like 90d or 12h, or \"never\"")

	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(names(auth.Roles), cobra.ShellCompDirectiveNoFileComp))

	return cmd
}

// isNew returns an error if there is a file already, which may hold a token that somebody
// needs: before there is another token.
func isNew(path string) error {
	if path == "" {
		return nil
	}

	_, err := os.Lstat(path)

	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("write the token: %w", err)
	default:
		return fmt.Errorf("%s is there already, and there is no second copy of a token: choose another name or remove it", path)
	}
}

// globs takes blanks between globs for commas: no name of a cluster has either. What is empty
// stays, so that it is refused: it must not mean everything.
func globs(values []string) []string {
	if values == nil {
		return nil
	}

	out := []string{}

	for _, value := range values {
		if fields := strings.Fields(value); len(fields) > 0 {
			out = append(out, fields...)
		} else {
			out = append(out, "")
		}
	}

	return out
}

func names(roles []auth.Role) []cobra.Completion {
	var out []cobra.Completion
	for _, role := range roles {
		out = append(out, string(role))
	}

	return out
}

// tokenEntry is the entry of the token file, all but the hash.
func tokenEntry(name string, roles, clusters []string, expires string, now time.Time) (auth.Token, error) {
	entry := auth.Token{Name: name}

	if err := auth.CheckName(name); err != nil {
		return entry, err
	}

	for _, role := range roles {
		grant := auth.Grant{Role: auth.Role(role), Clusters: clusters}
		if err := grant.Check(); err != nil {
			return entry, err
		}

		entry.Grants = append(entry.Grants, grant)
	}

	if expires == "never" {
		return entry, nil
	}

	life, err := tokenLife(expires)
	if err != nil {
		return entry, err
	}

	entry.Expires = now.Add(life).UTC().Truncate(time.Second)

	return entry, nil
}

// maxTokenLife keeps a typo from making a date that no file can hold.
const maxTokenLife = 100 * 365 * 24 * time.Hour

// tokenLife reads a duration as Go writes it, or a number of days.
func tokenLife(text string) (time.Duration, error) {
	life, err := time.ParseDuration(text)

	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64

		n, err = strconv.ParseUint(days, 10, 16)
		life = time.Duration(n) * 24 * time.Hour
	}

	switch {
	case err != nil:
		return 0, fmt.Errorf("--expires %q is not a duration: write it like 90d, 12h or never", text)
	case life < time.Minute:
		return 0, errors.New("--expires is shorter than a minute: nobody can use the token in time; write it like 90d, 12h or never")
	case life > maxTokenLife:
		return 0, errors.New("--expires is longer than 100 years: write `never` if that is meant")
	default:
		return life, nil
	}
}
