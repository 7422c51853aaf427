// Package server serves omni-syncd over HTTP.
//
//	source ──▶ template ──▶ render ──▶ diff ──▶ sync ──▶ omni
//	   ▲                                          │
//	   └── server: webhooks                       └──▶ read model
//
// It stands beside the flow. It tells sources that there is news (package webhook) and
// never touches Omni itself.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Bounds of a connection (G12).
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 32 << 10
	// drainTimeout is how long requests under way may take after the stop.
	drainTimeout = 5 * time.Second
)

// Config says where and what to serve.
type Config struct {
	// Listen is host:port; port 0 takes a free one.
	Listen string
	// CertFile and KeyFile are the certificate (PEM); they are read anew when they change.
	// Without them it is plain HTTP.
	CertFile, KeyFile string
	// Handler answers every request.
	Handler http.Handler
	// Logger may be nil.
	Logger *zap.Logger
}

// Server listens. It serves while Run runs.
type Server struct {
	Config

	listener net.Listener
}

// Listen takes the address and checks the certificate. Who does not call Run calls Close.
func Listen(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}

	var certificate *certificate

	if cfg.CertFile != "" {
		certificate = newCertificate(cfg.CertFile, cfg.KeyFile, cfg.Logger)
		if err := certificate.load(); err != nil {
			return nil, err
		}
	}

	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", cfg.Listen, errors.Unwrap(err))
	}

	if certificate != nil {
		listener = tls.NewListener(listener, &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: certificate.get, NextProtos: []string{"h2", "http/1.1"},
		})
	}

	return &Server{cfg, listener}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close stops listening. Run does it, too.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends; then it waits some seconds for requests under way.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler:           s.Handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          zap.NewStdLog(s.Logger.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))), // handshakes that fail are no news
	}

	stopped := make(chan error, 1)

	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()

		if err := server.Shutdown(ctx); err != nil {
			err = server.Close()
			stopped <- err

			return
		}

		stopped <- nil
	})

	if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		stop()

		return fmt.Errorf("serve at %s: %w", s.Addr(), err)
	}

	return <-stopped
}

// certificate is a certificate in files that change, as cert-manager and Kubernetes do it.
type certificate struct {
	certFile, keyFile string
	log               *zap.Logger

	mu      sync.Mutex
	loaded  *tls.Certificate
	changed [2]time.Time
	checked time.Time
}

// checkEvery is how often the files are looked at, at most.
const checkEvery = time.Second

func newCertificate(certFile, keyFile string, log *zap.Logger) *certificate {
	return &certificate{certFile: certFile, keyFile: keyFile, log: log}
}

func (c *certificate) load() error {
	var changed [2]time.Time

	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("the server's certificate: %w", err)
		}

		changed[i] = info.ModTime()
	}

	if c.loaded != nil && changed == c.changed {
		return nil
	}

	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("the server's certificate %s with the key %s: %w", c.certFile, c.keyFile, err)
	}

	c.loaded, c.changed = &pair, changed

	return nil
}

// get returns the certificate. One that cannot be read any more is served as it was.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if now := time.Now(); now.Sub(c.checked) >= checkEvery {
		c.checked = now

		if err := c.load(); err != nil {
			c.log.Warn("the certificate cannot be read, the last one is served on", zap.Error(err))
		}
	}

	return c.loaded, nil
}
