package sync_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
	"github.com/omni-syncd/omni-syncd/test/secrets"
)

// A role that was taken away and given back left every cluster refused until its next commit, and after a service account
// was destroyed each template was blamed for it.
func TestAccountIsDeniedForAWhile(t *testing.T) {
	for _, code := range []codes.Code{codes.PermissionDenied, codes.Unauthenticated} {
		t.Run(code.String(), func(t *testing.T) {
			seen, logs := observer.New(zapcore.WarnLevel)

			o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
			d := daemon.Start(t, o, func(cfg *sync.Config, _ *omni.SnapshotConfig) {
				cfg.Logger = zap.New(zapcore.NewTee(secrets.Logger(t).Core(), seen))
				// Only that another cluster may be written wakes the rest in time.
				cfg.RetryMin, cfg.RetryMax = 500*time.Millisecond, time.Hour
			})

			restore := o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: embedded.VerbCreate}, Code: code, Message: "no"})

			files, names := fstest.MapFS{}, []string(nil)
			for i := range 8 {
				names = append(names, fmt.Sprintf("c%d", i))
				files[names[i]+".yaml"] = cluster(names[i], "1.34.3", machine(i))
			}

			last := d.Feed(files)
			status := within(t, d, "all denied", func(s sync.Status) bool {
				for _, name := range names {
					if !strings.HasPrefix(target(s, name).Message, "this service account may not") {
						return false
					}
				}

				return true
			})

			want := map[codes.Code]string{
				codes.PermissionDenied: "this service account may not create Cluster c0 (c0.yaml:2:7): no; give the service account the role Operator, or an access policy that covers this",
				codes.Unauthenticated: "this service account may not create Cluster c0 (c0.yaml:2:7): no; the service account key is unknown to this Omni, has expired or was revoked, " +
					"or the clock of this machine is wrong",
			}[code]

			if got := target(status, "c0").Message; got != want {
				t.Errorf("c0 says\n%q, want\n%q", got, want)
			}

			if told := logs.All(); len(told) != 1 || told[0].Level != zapcore.ErrorLevel {
				t.Errorf("it is told %d times: %v", len(told), told)
			}

			restore()
			applied(t, d, last)
			expect(t, "clusters", names, live(t, o, omnires.ClusterType))
		})
	}
}
