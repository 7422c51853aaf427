package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	talos "github.com/siderolabs/talos/pkg/machinery/client/config"
	"gopkg.in/yaml.v3"
)

// TalosconfigPath returns the file that talosctl writes to: $TALOSCONFIG, else
// ~/.talos/config.
func TalosconfigPath() (string, error) {
	paths, err := talos.GetDefaultPaths()
	if err != nil {
		return "", fmt.Errorf("find the talosconfig: %w", err)
	}

	for _, path := range paths {
		if path.Path != "" && path.WriteAllowed {
			return path.Path, nil
		}
	}

	return "", errors.New("find the talosconfig: set TALOSCONFIG to its path")
}

// MergeTalosconfig puts the context of a talosconfig into a file and makes it the current
// one. Every other context in the file stays. Comments, and keys that talosctl does not
// know, are lost when it is written, as they are with talosctl.
//
// A context of the same name is replaced if it leads to the same cluster through the same
// Omni: the same cluster's name and endpoints, and no certificate. The nodes that somebody
// gave it stay. One that leads elsewhere is left alone, and the new one gets a number
// behind its name; if the name was chosen, that is an error.
//
// What is in the file already is not written again, so a second merge changes no byte. A
// file that cannot be read is an error, and left as it is.
//
// A file keeps its mode. But one that a key was merged into, which Omni does not hand out,
// is for its owner only (0600), whatever it was.
func MergeTalosconfig(ctx context.Context, path string, data []byte, opts MergeOptions) (Merged, error) {
	one, name, err := parseContext(data, opts)
	if err != nil {
		return Merged{}, err
	}

	return locked(ctx, []string{path}, func() (Merged, error) {
		at, err := locate(path)
		if err != nil {
			return Merged{}, err
		}

		before, err := at.read()
		if err != nil {
			return Merged{}, err
		}

		config, err := loadTalosconfig(path, before)
		if err != nil {
			return Merged{}, err
		}

		merged, err := mergeContext(config, path, one, name, opts)
		if err != nil {
			return Merged{}, err
		}

		same, err := loadTalosconfig(path, before)
		if err != nil {
			return Merged{}, err
		}

		var after []byte

		if !reflect.DeepEqual(same, config) {
			if after, err = writeTalosconfig(config); err != nil {
				return Merged{}, fmt.Errorf("write %s: %w", path, err)
			}
		}

		changed, shut, err := at.put(after, one.Key != "")
		if err != nil {
			return Merged{}, fmt.Errorf("write %s: %w", path, err)
		}

		merged.Changed = changed

		if shut {
			merged.Shut = path
		}

		return merged, nil
	})
}

// EditTalosconfig returns a talosconfig of Omni with another name of its context, or
// another identity.
func EditTalosconfig(data []byte, opts MergeOptions) ([]byte, error) {
	if opts.Context == "" && opts.Identity == "" {
		return data, nil
	}

	one, name, err := parseContext(data, opts)
	if err != nil {
		return nil, err
	}

	return writeTalosconfig(&talos.Config{Context: name, Contexts: map[string]*talos.Context{name: one}})
}

// parseContext reads what Omni gave, which is one context, and puts the options in force.
func parseContext(data []byte, opts MergeOptions) (one *talos.Context, name string, err error) {
	if err := opts.check(); err != nil {
		return nil, "", err
	}

	config, err := loadTalosconfig("the answer", data)
	if err != nil {
		return nil, "", err
	}

	one, name = config.Contexts[config.Context], config.Context
	if one == nil || len(config.Contexts) != 1 || len(one.Endpoints) == 0 || !isName(name) {
		return nil, "", errors.New("the answer is no talosconfig of one cluster: it needs one context, with an endpoint")
	}

	if opts.Context != "" {
		name = opts.Context
	}

	if opts.Identity != "" {
		one.Auth.SideroV1 = &talos.SideroV1{Identity: opts.Identity}
	}

	return one, name, nil
}

// mergeContext puts a context into a config.
func mergeContext(config *talos.Config, path string, one *talos.Context, name string, opts MergeOptions) (Merged, error) {
	merged := Merged{Path: path}

	for n := 0; merged.Context == ""; n++ {
		next := suffixed(name, n)
		before := config.Contexts[next]

		switch {
		case before == nil:
			merged.Context = next
		case leadsTo(before, one):
			merged.Context = next
			one.Nodes = before.Nodes
		case opts.Context != "":
			return Merged{}, taken(path, next, "talosctl config remove")
		case n == maxSuffix:
			return Merged{}, fmt.Errorf("%s has %d contexts called %s and a number, and all of them lead elsewhere: remove some, or choose a name with --context", path, n, name)
		}

		if n > 0 {
			merged.Taken = name
		}
	}

	if config.Contexts == nil {
		config.Contexts = map[string]*talos.Context{}
	}

	config.Contexts[merged.Context] = one

	if !opts.KeepCurrent {
		config.Context = merged.Context
	}

	merged.Current = config.Context == merged.Context

	return merged, nil
}

// leadsTo reports whether a context of a file is one that Omni gave for the same cluster.
func leadsTo(before, one *talos.Context) bool {
	return before.CA == "" && before.Crt == "" && before.Key == "" && before.Cluster == one.Cluster && slices.Equal(before.Endpoints, one.Endpoints)
}

// loadTalosconfig reads a talosconfig. An empty file is an empty config.
func loadTalosconfig(path string, data []byte) (*talos.Config, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return &talos.Config{}, nil
	}

	// Talos' loader takes a context without contents for one that is there.
	var shape struct {
		Contexts map[string]*struct{} `yaml:"contexts"`
	}

	if err := yaml.Unmarshal(data, &shape); err != nil {
		return nil, unreadable(path, "talosconfig", err)
	}

	if hasNil(shape.Contexts) {
		return nil, fmt.Errorf("%s cannot be read as a talosconfig: one of its contexts is empty; it was left as it is", path)
	}

	config, err := talos.FromBytes(data)
	if err != nil {
		return nil, unreadable(path, "talosconfig", err)
	}

	if hasNil(config.Contexts) {
		return nil, fmt.Errorf("%s cannot be read as a talosconfig: one of its contexts is empty; it was left as it is", path)
	}

	return config, nil
}

// writeTalosconfig returns a config as Talos writes it. It is read again, because the
// writer, a release candidate, loses blanks at the edges of some texts of several lines.
func writeTalosconfig(config *talos.Config) ([]byte, error) {
	data, err := config.Bytes()
	if err != nil {
		return nil, err
	}

	if again, err := loadTalosconfig("", data); err != nil || !equalContexts(again, config) {
		return nil, errLost
	}

	return data, nil
}

// equalContexts compares what was written: no list and an empty one are the same.
func equalContexts(a, b *talos.Config) bool {
	if a.Context != b.Context || len(a.Contexts) != len(b.Contexts) {
		return false
	}

	for name, one := range a.Contexts {
		other := b.Contexts[name]
		if other == nil || !slices.Equal(one.Endpoints, other.Endpoints) || !slices.Equal(one.Nodes, other.Nodes) {
			return false
		}

		x, y := *one, *other
		x.Endpoints, y.Endpoints, x.Nodes, y.Nodes = nil, nil, nil, nil

		if !reflect.DeepEqual(x, y) {
			return false
		}
	}

	return true
}
