// Package secrets looks for secrets where none may be: in the logs of tests (G9).
package secrets

import (
	"regexp"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// shape is what secrets look like: private keys, tokens of the daemon's API, tokens in
// kubeconfigs and service account keys (both begin with `{"` in base64), and the canaries
// that tests plant.
var shape = regexp.MustCompile(`PRIVATE KEY|osd_[\w-]{20}|eyJ[\w-]{20}|canary-secret|correct horse`)

// Find returns the beginning of a secret in data; "" if there is none.
func Find(data []byte) string {
	found := shape.Find(data)

	return string(found[:min(len(found), 12)])
}

// Logger returns a logger for what a test runs. It writes nothing, and fails the test if a
// secret is logged, at whatever level.
func Logger(tb testing.TB) *zap.Logger {
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())

	return zap.New(zapcore.NewCore(encoder, watch{tb}, zapcore.DebugLevel))
}

// watch takes the place of a log.
type watch struct{ tb testing.TB }

// Write implements io.Writer.
func (w watch) Write(line []byte) (int, error) {
	if found := Find(line); found != "" {
		w.tb.Errorf("a secret is in the log: %s…", found)
	}

	return len(line), nil
}

// Sync implements zapcore.WriteSyncer.
func (watch) Sync() error { return nil }
