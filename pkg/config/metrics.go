package config

import (
	"fmt"
	"net"
	"strconv"
)

// Metrics is where Prometheus and probes ask.
type Metrics struct {
	// Listen is host:port for /metrics, /healthz and /readyz, in plain HTTP. Default: nothing
	// listens.
	Listen string `yaml:"listen"`
}

func (m *Metrics) check() []error {
	if m.Listen == "" {
		return nil
	}

	_, port, err := net.SplitHostPort(m.Listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}

	if err != nil {
		return []error{fmt.Errorf("metrics.listen: %q is no address; write host:port, such as 127.0.0.1:9090", m.Listen)}
	}

	return nil
}
