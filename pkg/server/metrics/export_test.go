package metrics

import (
	"regexp"

	"github.com/prometheus/client_golang/prometheus"
)

// Names returns the names of all metrics of ours, whether they have values yet or not.
func (m *Metrics) Names() []string {
	descs := make(chan *prometheus.Desc)

	go func() {
		defer close(descs)

		m.registry.Describe(descs)
		(*state)(nil).Describe(descs)
	}()

	var names []string

	for d := range descs {
		if found := ownName.FindStringSubmatch(d.String()); found != nil {
			names = append(names, found[1])
		}
	}

	return names
}

var ownName = regexp.MustCompile(`fqName: "(omni_syncd_[a-z_]+)"`)
