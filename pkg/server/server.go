// Package server serves omni-syncd over HTTP.
//
//	source ──▶ template ──▶ render ──▶ diff ──▶ sync ──▶ omni
//	   ▲                                          │
//	   └── server: webhooks                       └──▶ read model ──▶ server: api
//
// It stands beside the flow. It tells sources that there is news (package webhook), tells
// people what the engine does (package api), and never touches Omni itself.
package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	// maxStreams is how many requests one HTTP/2 connection makes at the same time.
	maxStreams = 32
	// maxSocketConns is how many connections a unix socket takes at the same time.
	maxSocketConns = 128
	// drainTimeout is how long requests under way may take after the stop.
	drainTimeout = 5 * time.Second
)

// Config says where and what to serve.
type Config struct {
	// Listen is host:port; port 0 takes a free one.
	Listen string
	// Socket is the path of a unix socket to listen at instead; see [Listen].
	Socket string
	// CertFile and KeyFile are the certificate (PEM); they are read anew when they change.
	// Without them it is plain HTTP.
	CertFile, KeyFile string
	// ClientCAFile, with a certificate, holds the authorities (PEM) of which every client has
	// to show a certificate. Optional; it is read once.
	ClientCAFile string
	// HTTP2 is spoken over TLS, too: gRPC needs it.
	HTTP2 bool
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
//
// An address holds 1024 connections at the same time, and 128 of one remote IPv4 address or
// /64 of IPv6. What is over that is closed at once and logged, at a bounded rate.
//
// A unix socket is there for its owner: its folder is made with the mode 0700 if it is
// missing, it has the mode 0600, and a connection of anybody but the same user and root is
// closed and logged. A socket that nobody listens at is replaced; one that somebody listens
// at, or a file that is no socket, is an error. HTTP/2 is spoken there without TLS, too.
func Listen(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}

	if cfg.Socket != "" {
		listener, err := listenSocket(cfg.Socket, cfg.Logger)
		if err != nil {
			return nil, err
		}

		return &Server{cfg, listener}, nil
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

	listener = newLimitListener(listener, cfg.Logger)

	if certificate != nil {
		config, err := tlsConfig(cfg, certificate)
		if err != nil {
			return nil, errors.Join(err, listener.Close())
		}

		listener = tls.NewListener(listener, config)
	}

	return &Server{cfg, listener}, nil
}

func tlsConfig(cfg Config, certificate *certificate) (*tls.Config, error) {
	// HTTP/2 only where it is needed: an answer that is given before the body was read
	// reaches some clients as a broken stream, and not as the answer that says what is wrong.
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate.get, NextProtos: []string{"http/1.1"}}
	if cfg.HTTP2 {
		config.NextProtos = []string{"h2", "http/1.1"}
	}

	if cfg.ClientCAFile == "" {
		return config, nil
	}

	pem, err := os.ReadFile(cfg.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("the authorities of the clients: %w", err)
	}

	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate: write one (PEM) with BEGIN CERTIFICATE into it", cfg.ClientCAFile)
	}

	return config, nil
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
		ConnContext:       withPeer,
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, SendPingTimeout: idleTimeout, PingTimeout: headerTimeout, WriteByteTimeout: idleTimeout,
		},
	}

	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(s.Socket != "") // gRPC without TLS; the socket's mode and the peer's user guard it

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
