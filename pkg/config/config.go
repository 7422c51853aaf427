// Package config reads the configuration file of omni-syncd.
//
// It stands beside the flow, not in it: cmd reads a [Config] and wires the stages with
// it. The file is decoded strictly, so that a misspelt key is an error with its line
// and never a setting that silently does nothing.
package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Bounds of the file (G12).
const (
	// MaxSize is how large a configuration file may be, in bytes.
	MaxSize = 1 << 20
	// MaxSources is how many sources one daemon takes.
	MaxSources = 1000
)

// Config is the configuration file.
type Config struct {
	// Omni says which Omni to drive. What is left out comes from the environment.
	Omni Omni `yaml:"omni"`
	// Sources are the repositories and directories to follow; at least one.
	Sources []Source `yaml:"sources"`
	// Deletions is "allowed" (the default) or "paused": no cluster and no fleet resource is deleted.
	Deletions string `yaml:"deletions"`
	// DeleteWindow is how long a deletion counts against maxDelete and maxDeleteResources. Default 1h.
	DeleteWindow Duration `yaml:"deleteWindow"`
	// StateDir is where the object stores of Git sources, the history and what is suspended
	// are kept between starts. Default: a temporary directory, so that every start fetches
	// anew, no history, and nothing can be suspended by request.
	StateDir string `yaml:"stateDir"`
	// Retry says how what fails is tried again.
	Retry Retry `yaml:"retry"`
	// TeardownWarnAfter is how long a teardown may take before people are warned. Default 15m.
	TeardownWarnAfter Duration `yaml:"teardownWarnAfter"`
	// Webhooks is where pushes are announced; nothing listens without it.
	Webhooks *Webhooks `yaml:"webhooks"`
	// API is where the daemon is asked and told.
	API API `yaml:"api"`
	// Access is what it hands out.
	Access Access `yaml:"access"`
	// Kubernetes is the cluster that the daemon runs in.
	Kubernetes Kubernetes `yaml:"kubernetes"`
	// Metrics is where Prometheus and probes ask.
	Metrics Metrics `yaml:"metrics"`
}

// Retry says how what fails is tried again: after half a second, then twice as long each
// time.
type Retry struct {
	// MaxInterval is the longest time between two attempts. Default 1m.
	MaxInterval Duration `yaml:"maxInterval"`
}

// Webhooks is the address at which sources are told that there is news.
type Webhooks struct {
	// Listen is host:port.
	Listen string `yaml:"listen"`
	// CertFile and KeyFile are the server's certificate; it is read anew when it changes.
	// Without them it is plain HTTP, for a proxy in front.
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
}

// Omni is the connection to Omni.
type Omni struct {
	// Endpoint is the URL of Omni's API. Default: $OMNI_ENDPOINT.
	Endpoint string `yaml:"endpoint"`
	// ServiceAccountKeyFile holds the key of a service account with the role Operator,
	// as `omnictl serviceaccount create` prints it. Default: $OMNI_SERVICE_ACCOUNT_KEY.
	// The key itself never stands in the configuration.
	ServiceAccountKeyFile string `yaml:"serviceAccountKeyFile"`
	// CAFile holds certificates (PEM) that are trusted in addition to the system's.
	CAFile string `yaml:"caFile"`
	// Newer says what to do with an Omni that is newer than what this program was tested with: apply (the default) or plan,
	// which writes nothing.
	Newer string `yaml:"newer"`
}

// Duration is a time.Duration written as in Go: 30s, 1m, 1h30m.
type Duration time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	value, err := time.ParseDuration(node.Value)
	if err != nil || value < 0 {
		return fmt.Errorf("line %d: %q is not a duration; write it like 30s, 1m or 1h30m", node.Line, node.Value)
	}

	*d = Duration(value)

	return nil
}

// MinInterval keeps a typo from flooding a Git server.
const MinInterval = time.Second

// The words that `foreign`, `sync`, `deletion` and `deletions` take.
const (
	Paused             = "paused"
	Keep, Prune        = "keep", "prune"
	Auto, Manual       = "auto", "manual"
	Allowed, Protected = "allowed", "protected"
	Apply, Plan        = "apply", "plan"
)

// What may go without anybody's word, unless the source says otherwise.
const (
	DefaultDeleteAfter        = 5 * time.Minute
	DefaultDeleteWindow       = time.Hour
	DefaultMaxDelete          = 1
	DefaultMaxDeleteResources = 5
	DefaultMaxDeleteMachines  = 10
)

// The defaults of `retry.maxInterval` and `teardownWarnAfter`.
const (
	DefaultRetryMax          = time.Minute
	DefaultTeardownWarnAfter = 15 * time.Minute
)

// DefaultInterval is how often Git is asked for news unless the source says otherwise.
const DefaultInterval = time.Minute

// Load reads and checks a configuration file and fills in the defaults. Relative paths
// are made relative to the file's folder. All problems are reported in one error.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from

	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration %s: %w", path, err)
	}

	cfg, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("the configuration %s cannot be used:\n%w", path, err)
	}

	cfg.resolve(filepath.Dir(path))

	return cfg, nil
}

// Parse decodes and checks a configuration and fills in the defaults.
func Parse(data []byte) (*Config, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("it is larger than %d bytes", MaxSize)
	}

	if err := checkKeys(data); err != nil {
		return nil, err
	}

	var cfg Config

	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)

	switch err := decoder.Decode(&cfg); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("it is empty; it needs at least `sources:`")
	case err != nil && strings.Contains(err.Error(), "field confirm not found"):
		return nil, fmt.Errorf("%w; a deletion is confirmed with `omni-syncd confirm NAME`: remove the key", err)
	case err != nil:
		return nil, err
	}

	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one YAML document; only one is allowed")
	}

	if err := checkValues(data); err != nil {
		return nil, err
	}

	cfg.SetDefaults()

	return &cfg, cfg.check()
}

// maxKey is how long a key is at most, in bytes.
const maxKey = 512

// checkKeys refuses keys that can be no names. A decoder quotes in its errors the key that it
// does not know, with all that is in it.
func checkKeys(data []byte) error {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return err
	}

	var (
		problems []error
		walk     func(*yaml.Node)
	)

	walk = func(node *yaml.Node) {
		for i, child := range node.Content {
			if node.Kind == yaml.MappingNode && i%2 == 0 {
				key := child
				if key.Kind == yaml.AliasNode {
					key = key.Alias
				}

				if key.Kind != yaml.ScalarNode || len(key.Value) > maxKey || strings.Contains(key.Value, "\n") {
					problems = append(problems, fmt.Errorf("line %d: this key is no name: write a short text on one line", child.Line))

					continue
				}
			}

			walk(child)
		}
	}

	walk(&document)

	return errors.Join(problems...)
}

// SetDefaults fills in what is left out.
func (c *Config) SetDefaults() {
	c.Deletions = cmp.Or(c.Deletions, Allowed)
	c.Omni.Newer = cmp.Or(c.Omni.Newer, Apply)
	c.DeleteWindow = cmp.Or(c.DeleteWindow, Duration(DefaultDeleteWindow))
	c.Retry.MaxInterval = cmp.Or(c.Retry.MaxInterval, Duration(DefaultRetryMax))
	c.TeardownWarnAfter = cmp.Or(c.TeardownWarnAfter, Duration(DefaultTeardownWarnAfter))
	c.Kubernetes.setDefaults()

	for i := range c.Sources {
		src := &c.Sources[i]
		if src.Interval == 0 {
			src.Interval = Duration(DefaultInterval)
		}

		src.Foreign = cmp.Or(src.Foreign, Keep)
		src.Sync = cmp.Or(src.Sync, Auto)
		src.Deletion = cmp.Or(src.Deletion, Allowed)

		if src.DeleteAfter == nil {
			src.DeleteAfter = new(Duration(DefaultDeleteAfter))
		}

		for _, limit := range []struct {
			value    **int
			fallback int
		}{{&src.MaxDelete, DefaultMaxDelete}, {&src.MaxDeleteResources, DefaultMaxDeleteResources}, {&src.MaxDeleteMachines, DefaultMaxDeleteMachines}} {
			if *limit.value == nil {
				*limit.value = new(limit.fallback)
			}
		}
	}
}

func (c *Config) check() error {
	var problems []error

	if len(c.Sources) == 0 {
		problems = append(problems, errors.New("sources: there is none; name at least one"))
	}

	if len(c.Sources) > MaxSources {
		problems = append(problems, fmt.Errorf("sources: there are %d, at most %d are allowed", len(c.Sources), MaxSources))
	}

	if c.Retry.MaxInterval < Duration(time.Second) {
		problems = append(problems, fmt.Errorf("retry.maxInterval: %s is too short, the least is 1s", time.Duration(c.Retry.MaxInterval)))
	}

	if c.Deletions != Allowed && c.Deletions != Paused {
		problems = append(problems, fmt.Errorf("deletions: %q is unknown; use %q or %q", c.Deletions, Allowed, Paused))
	}

	if c.Omni.Newer != Apply && c.Omni.Newer != Plan {
		problems = append(problems, fmt.Errorf("omni.newer: %q is unknown; use %q or %q", c.Omni.Newer, Apply, Plan))
	}

	problems = append(problems, c.checkWebhooks()...)
	problems = append(problems, c.API.check()...)
	problems = append(problems, c.Access.check()...)
	problems = append(problems, c.Kubernetes.check()...)
	problems = append(problems, c.Metrics.check()...)

	seen := map[string]bool{}

	for i := range c.Sources {
		src := &c.Sources[i]

		for _, err := range src.check() {
			problems = append(problems, fmt.Errorf("sources[%d]: %w", i, err))
		}

		if seen[src.Name] {
			problems = append(problems, fmt.Errorf("sources[%d]: the name %q is taken by an earlier source", i, src.Name))
		}

		seen[src.Name] = true
	}

	return errors.Join(problems...)
}

func (c *Config) checkWebhooks() []error {
	wanted := slices.ContainsFunc(c.Sources, func(s Source) bool { return s.Webhook != nil })

	switch {
	case c.Webhooks == nil && wanted:
		return []error{errors.New("webhooks.listen: it is missing, and a source has a webhook; give an address such as 127.0.0.1:9292")}
	case c.Webhooks == nil:
		return nil
	case !wanted:
		return []error{errors.New("webhooks: no source has a webhook; give one `webhook:`, or leave it out")}
	}

	var problems []error

	if _, _, err := net.SplitHostPort(c.Webhooks.Listen); err != nil {
		problems = append(problems, fmt.Errorf("webhooks.listen: %q is no address; write host:port, such as 127.0.0.1:9292", c.Webhooks.Listen))
	}

	if (c.Webhooks.CertFile == "") != (c.Webhooks.KeyFile == "") {
		problems = append(problems, errors.New("webhooks: certFile and keyFile belong together"))
	}

	return problems
}

// resolve makes the paths of the file relative to the folder that the file is in.
func (c *Config) resolve(folder string) {
	paths := []*string{&c.StateDir, &c.Omni.ServiceAccountKeyFile, &c.Omni.CAFile, &c.Kubernetes.KubeconfigFile}
	if c.Webhooks != nil {
		paths = append(paths, &c.Webhooks.CertFile, &c.Webhooks.KeyFile)
	}

	paths = append(paths, c.API.files()...)
	if c.Access.Directory != nil {
		paths = append(paths, &c.Access.Directory.Path)
	}

	for i := range c.Sources {
		src := &c.Sources[i]

		if src.Dir != nil {
			paths = append(paths, &src.Dir.Path)
		}

		if src.Git != nil {
			paths = append(paths, src.Git.files()...)
		}

		if src.Webhook != nil {
			paths = append(paths, &src.Webhook.SecretFile)
		}
	}

	for _, path := range paths {
		resolve(path, folder)
	}
}

func resolve(path *string, folder string) {
	if *path != "" && !filepath.IsAbs(*path) {
		*path = filepath.Join(folder, *path)
	}
}
