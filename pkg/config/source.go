package config

import (
	"errors"
	"fmt"
	"path"
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
	// Origin is what the repository is known by, in place of its host and path: for a repository that moved, a fork, an
	// alias of ssh, and a folder outside of Git.
	Origin string `yaml:"origin"`
	// DeleteAfter is how long what left Git has to be gone before it is destroyed. Default 5m.
	DeleteAfter *Duration `yaml:"deleteAfter"`
	// MaxDelete is how many clusters may go within DeleteWindow without a confirmation. Default 1; 0 allows none.
	MaxDelete *int `yaml:"maxDelete"`
	// MaxDeleteResources is the same for fleet resources. Default 5.
	MaxDeleteResources *int `yaml:"maxDeleteResources"`
	// MaxDeleteMachines is how many machines may leave a cluster at once; more wait for DeleteAfter. Default 10.
	MaxDeleteMachines *int `yaml:"maxDeleteMachines"`
	// Allow is what the source may do. Default: everything but taking over.
	Allow Allow `yaml:"allow"`
	// Foreign says what happens to resources that others made in a cluster of the source
	// and no template describes: "keep" (the default) or "prune".
	Foreign string `yaml:"foreign"`
	// Sync is "auto" (the default) or "manual": plan, but write only when somebody runs
	// `omni-syncd sync`.
	Sync string `yaml:"sync"`
	// Deletion is "allowed" (the default) or "protected": no cluster and no fleet resource of
	// the source is deleted, whatever Prune says.
	Deletion string `yaml:"deletion"`
	// Suspend plans and writes nothing.
	Suspend bool `yaml:"suspend"`
}

// Allow limits a source.
type Allow struct {
	// Clusters are globs of names. Default: every cluster.
	Clusters []string `yaml:"clusters"`
	// Kinds are the kinds of resources in manifests, such as MachineClass, and Cluster for templates. Default: all.
	Kinds []string `yaml:"kinds"`
	// TakeFrom names sources whose clusters and fleet resources this one may take over once they left Git there.
	TakeFrom []string `yaml:"takeFrom"`
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

// kinds are those that a source writes by itself: what makes up a cluster comes with the Cluster.
var kinds = []string{"Cluster", "ConfigPatch", "EtcdManualBackup", "InfraMachineConfig", "InstallationMediaConfig", "MachineClass", "MachineLabels", "MachineRequestSet"}

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

	for key, limit := range map[string]int{"maxDelete": *s.MaxDelete, "maxDeleteResources": *s.MaxDeleteResources, "maxDeleteMachines": *s.MaxDeleteMachines} {
		if limit < 0 {
			problems = append(problems, fmt.Errorf("%s: it cannot be negative; 0 allows none", key))
		}
	}

	return append(problems, s.checkAllow()...)
}

func (s *Source) checkAllow() []error {
	var problems []error

	for _, glob := range s.Allow.Clusters {
		if _, err := path.Match(glob, ""); err != nil {
			problems = append(problems, fmt.Errorf("allow.clusters: %q is no glob: %w", glob, err))
		}
	}

	for _, kind := range s.Allow.Kinds {
		if !slices.Contains(kinds, kind) {
			problems = append(problems, fmt.Errorf("allow.kinds: %q is unknown; use some of %s", kind, strings.Join(kinds, ", ")))
		}
	}

	for _, from := range s.Allow.TakeFrom {
		if err := CheckName(from); err != nil {
			problems = append(problems, fmt.Errorf("allow.takeFrom: %w", err))
		}
	}

	return problems
}
