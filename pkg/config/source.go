package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Source is one repository or directory.
type Source struct {
	// Name identifies the source in status, logs and the ownership mark of everything
	// that it creates. Renaming a source orphans what it made.
	Name string `yaml:"name"`
	// Git or Dir: exactly one of them.
	Git *Git `yaml:"git"`
	Dir *Dir `yaml:"dir"`
	// Webhook accepts announcements at /hooks/<name>.
	Webhook *Webhook `yaml:"webhook"`
	// Path is the folder of the templates inside the repository or directory. Default: all of it.
	Path string `yaml:"path"`
	// Include and Exclude are globs (`**` matches any depth) relative to Path. Default: every YAML file.
	Include []string `yaml:"include"`
	Exclude []string `yaml:"exclude"`
	// Interval is how often Git is asked for news. Default 1m.
	Interval Duration `yaml:"interval"`
	// Prune deletes clusters and fleet resources that left Git. Default false.
	Prune bool `yaml:"prune"`
	// MaxDelete is how many clusters may leave Git at once. Default 1; 0 allows none.
	MaxDelete *int `yaml:"maxDelete"`
	// Confirm lists the digests of deletions that are allowed although a guard stopped
	// them; the guard's message names the digest.
	Confirm []string `yaml:"confirm"`
	// Foreign says what happens to resources that others made in a cluster of the source
	// and no template describes: "keep" (the default) or "prune".
	Foreign string `yaml:"foreign"`
	// Sync is "auto" (the default) or "manual": plan, but write only when somebody runs
	// `omni-syncd sync`.
	Sync string `yaml:"sync"`
	// Deletion is "allowed" (the default) or "protected": no cluster of the source is
	// deleted, whatever Prune says.
	Deletion string `yaml:"deletion"`
	// Suspend plans and writes nothing.
	Suspend bool `yaml:"suspend"`
}

// Dir is a watched directory.
type Dir struct {
	// Path of the directory; a relative one is relative to the configuration file.
	Path string `yaml:"path"`
}

// name is what a source may be called: it becomes a metric label and an annotation value.
var name = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

// CheckName returns an error if a source cannot be called s.
func CheckName(s string) error {
	if !name.MatchString(s) {
		return fmt.Errorf("%q cannot be the name of a source: use up to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit at both ends", s)
	}

	return nil
}

func (s *Source) check() []error {
	var problems []error

	if err := CheckName(s.Name); err != nil {
		problems = append(problems, fmt.Errorf("name: %w", err))
	}

	switch {
	case s.Git == nil && s.Dir == nil:
		problems = append(problems, errors.New("it needs `git:` or `dir:`"))
	case s.Git != nil && s.Dir != nil:
		problems = append(problems, errors.New("it has both `git:` and `dir:`; choose one"))
	case s.Git != nil:
		problems = append(problems, s.Git.Check()...)
	case s.Dir != nil && s.Dir.Path == "":
		problems = append(problems, errors.New("dir.path: it is missing"))
	}

	if interval := time.Duration(s.Interval); interval < MinInterval {
		problems = append(problems, fmt.Errorf("interval: %s is too short, the least is %s", interval, MinInterval))
	}

	for _, choice := range []struct{ key, value, fallback, other string }{
		{"foreign", s.Foreign, Keep, Prune}, {"sync", s.Sync, Auto, Manual}, {"deletion", s.Deletion, Allowed, Protected},
	} {
		if choice.value != choice.fallback && choice.value != choice.other {
			problems = append(problems, fmt.Errorf("%s: %q means nothing; use %q or %q", choice.key, choice.value, choice.fallback, choice.other))
		}
	}

	if hook := s.Webhook; hook != nil {
		switch {
		case !slices.Contains(providers, hook.Provider):
			problems = append(problems, fmt.Errorf("webhook.provider: %q is unknown; use one of %s", hook.Provider, strings.Join(providers, ", ")))
		case hook.SecretFile == "":
			problems = append(problems, errors.New("webhook.secretFile: it is missing; without a secret anybody could send announcements"))
		case s.Git == nil:
			problems = append(problems, errors.New("webhook: only a Git repository has one; a directory is watched"))
		}
	}

	if *s.MaxDelete < 0 {
		problems = append(problems, errors.New("maxDelete: it cannot be negative; 0 deletes no cluster"))
	}

	return problems
}
