package main

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/server"
	"github.com/omni-syncd/omni-syncd/pkg/server/metrics"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// meters is the listener for Prometheus and probes. If nobody wants it nothing is counted:
// every hook is left out.
type meters struct {
	metrics *metrics.Metrics
	server  *server.Server // nil if nothing listens
	log     *zap.Logger
}

// listenForScrapes takes the address, so that one that is in use is an error at start.
func listenForScrapes(cfg config.Metrics, log *zap.Logger) (*meters, error) {
	m := &meters{log: log}

	if cfg.Listen == "" {
		return m, nil
	}

	var err error

	m.server, err = server.Listen(server.Config{Listen: cfg.Listen, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}

	m.metrics = metrics.New(versionString())

	return m, nil
}

// omni counts the calls to Omni.
func (m *meters) omni() []grpc.DialOption {
	if m.metrics == nil {
		return nil
	}

	return m.metrics.DialOptions()
}

// git counts the requests to Git servers; nil counts nothing.
func (m *meters) git() func(source.Request) {
	if m.metrics == nil {
		return nil
	}

	return m.metrics.Git
}

// engine counts what the engine does.
func (m *meters) engine(cfg *sync.Config) {
	if m.metrics != nil {
		cfg.Meter, cfg.QueueMetrics = m.metrics, m.metrics.Queue()
	}
}

// webhooks counts the requests to the listener of webhooks.
func (m *meters) webhooks(w *webhooks) {
	if m.metrics != nil && w.server != nil {
		w.server.Handler = m.metrics.Webhooks(w.server.Handler)
	}
}

// api counts the calls of the API.
func (m *meters) api() []connect.Interceptor {
	if m.metrics == nil {
		return nil
	}

	return []connect.Interceptor{m.metrics.API()}
}

// configured tells what came of reading the configuration again.
func (m *meters) configured(err error) {
	if m.metrics != nil {
		m.metrics.Configured(err)
	}
}

// run serves until ctx ends.
func (m *meters) run(ctx context.Context, engine *sync.Engine) error {
	if m.server == nil {
		<-ctx.Done()

		return nil
	}

	m.server.Handler = m.metrics.Handler(metrics.HandlerConfig{Engine: engine, Snapshot: engine.Snapshot, Logger: m.log})
	m.log.Info("listening for /metrics, /healthz and /readyz", zap.String("address", m.server.Addr()))

	return m.server.Run(ctx)
}
