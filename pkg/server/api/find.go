package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// maxName is how long a name in a request may be, in bytes.
const maxName = 253

// checkNames refuses what cannot be the name of anything, so that it is in no error and no
// log line as it came.
func checkNames(names ...string) error {
	for _, name := range names {
		odd := func(r rune) bool { return r <= ' ' || r > '~' }
		if len(name) > maxName || strings.ContainsFunc(name, odd) {
			return invalid("%q is no name: it may have up to %d printable ASCII characters", printable(name), maxName)
		}
	}

	return nil
}

// filter returns the targets of a source ("": all) and of a name (nil: all). An unknown
// source, and a name that no target has, are not found.
func filter(all *sync.Changes, source string, cluster *string) ([]sync.TargetStatus, error) {
	if err := checkNames(source); err != nil {
		return nil, err
	}

	if source != "" && !slices.ContainsFunc(all.Sources, func(s sync.SourceStatus) bool { return s.Name == source }) {
		return nil, detailed(connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no source %q", source)), "UNKNOWN_SOURCE", map[string]string{"source": source})
	}

	if cluster != nil {
		if err := checkNames(*cluster); err != nil {
			return nil, err
		}
	}

	var found []sync.TargetStatus

	for i := range all.Targets {
		if t := &all.Targets[i]; (source == "" || t.Source == source) && (cluster == nil || t.Target == *cluster) {
			found = append(found, *t)
		}
	}

	if cluster != nil && len(found) == 0 {
		return nil, notFound(all, source, *cluster)
	}

	return found, nil
}

func notFound(all *sync.Changes, source, cluster string) error {
	what := fmt.Sprintf("there is no cluster %q", cluster)
	if cluster == "" {
		what = "there are no fleet resources"
	}

	if source != "" {
		what += fmt.Sprintf(" in the source %q", source)
	}

	if !all.Ready {
		what += " so far; Omni was not read completely yet"
	}

	return detailed(connect.NewError(connect.CodeNotFound, errors.New(what)), "UNKNOWN_CLUSTER", map[string]string{"source": source, "cluster": cluster})
}

// one returns the one target that a request names.
func one(all *sync.Changes, source, cluster string) (*sync.TargetStatus, error) {
	if source == "" && cluster == "" {
		return nil, invalid("name a cluster, or a source for its fleet resources")
	}

	found, err := filter(all, source, &cluster)

	switch {
	case err != nil:
		return nil, err
	case len(found) > 1:
		return nil, invalid("the cluster %q is in the sources %s and %s: name one of them", cluster, found[0].Source, found[1].Source)
	default:
		return &found[0], nil
	}
}

func invalid(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}
