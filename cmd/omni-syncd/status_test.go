package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
)

func TestWriteOmni(t *testing.T) {
	t.Parallel()

	for want, omni := range map[string]*v1.Omni{
		"":                             {Version: "v1.9.3"},
		"Omni is v1.99.0, and so on\n": {Version: "v1.99.0", Note: "Omni is v1.99.0, and so on"},
		"Omni has been away for 1m: connection refused; this is how things were, and nothing is written until it is back\n": {
			Away: "connection refused", AwaySinceTime: timestamppb.New(time.Now().Add(-time.Minute)),
		},
	} {
		var out strings.Builder
		if writeOmni(&out, omni); out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}
