package config_test

import (
	"strings"
	"testing"

	"github.com/omni-syncd/omni-syncd/pkg/config"
)

func TestMetrics(t *testing.T) {
	for listen, want := range map[string]string{
		"": "", "127.0.0.1:9090": "", ":9090": "", "[::1]:0": "",
		"9090":             "metrics.listen: \"9090\" is no address; write host:port, such as 127.0.0.1:9090",
		"http://localhost": "metrics.listen: \"http://localhost\" is no address; write host:port, such as 127.0.0.1:9090",
	} {
		_, err := config.Parse([]byte("metrics: {listen: \"" + listen + "\"}\nsources: [{name: a, dir: {path: x}}]\n"))

		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", listen, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %s", listen, err, want)
		}
	}
}
