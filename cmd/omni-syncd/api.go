package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/server"
	"github.com/omni-syncd/omni-syncd/pkg/server/api"
	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// calls are the listeners of the daemon's API: a socket for its own user, and an address
// for others. Each is nil if nothing listens there.
type calls struct {
	socket, server *server.Server
	// ways are how somebody at the address says who they are.
	ways   []auth.Authenticator
	config api.Config
	access access.IssuerConfig
	log    *zap.Logger
}

// listenForCalls takes the socket and the address, so that one that is in use is an error
// at start. socket is what somebody chose; else the default holds, which a second daemon
// of the same user has to do without.
func listenForCalls(socket string, all *config.Config, history *runningHistory, access access.IssuerConfig, log *zap.Logger) (*calls, error) {
	cfg := &all.API
	c := &calls{config: api.Config{Logger: log}, access: access, log: log}

	if history != nil {
		c.config.History = history
	}

	var err error

	if c.socket, err = listenAtSocket(socket, log); err != nil {
		return nil, fmt.Errorf("the API: %w", err)
	}

	if cfg.Listen == "" {
		return c, nil
	}

	if c.ways, err = waysIn(cfg, &all.Kubernetes, log); err != nil {
		return nil, errors.Join(fmt.Errorf("the API: %w", err), c.close())
	}

	c.server, err = server.Listen(server.Config{
		Listen: cfg.Listen, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, ClientCAFile: cfg.ClientCAFile, HTTP2: true, Logger: log,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the API: %w", err), c.close())
	}

	return c, nil
}

// listenAtSocket returns nil if there is to be no socket.
func listenAtSocket(path string, log *zap.Logger) (*server.Server, error) {
	chosen := path != ""
	if !chosen {
		path = defaultSocket()
	}

	switch path {
	case config.None:
		return nil, nil
	case "":
		log.Info("there is no socket for `omni-syncd status` and its like: neither `api.socket` nor --socket says where, and $RUNTIME_DIRECTORY and $XDG_RUNTIME_DIR are not set")

		return nil, nil
	}

	listener, err := server.Listen(server.Config{Socket: path, Logger: log})
	if err != nil && !chosen {
		log.Warn("there is no socket for `omni-syncd status` and its like; choose a path with `api.socket` or --socket", zap.Error(err))

		return nil, nil
	}

	return listener, err
}

// waysIn are how somebody at the address of the API can say who they are.
func waysIn(cfg *config.API, home *config.Kubernetes, log *zap.Logger) ([]auth.Authenticator, error) {
	var ways []auth.Authenticator

	if cfg.TokensFile != "" {
		tokens, err := auth.NewTokens(auth.TokensConfig{File: cfg.TokensFile, Logger: log})
		if err != nil {
			return nil, fmt.Errorf("tokensFile: %w", err)
		}

		ways = append(ways, tokens)
	}

	if o := cfg.OIDC; o != nil {
		issuer := auth.OIDCConfig{Issuer: o.Issuer, Audience: o.Audience, CAFile: o.CAFile, UsernameClaim: o.UsernameClaim, Claim: o.Claim}
		for _, g := range o.Grants {
			issuer.Grants = append(issuer.Grants, auth.ClaimGrant{Value: g.Value, Grant: auth.Grant{Role: auth.Role(g.Role), Clusters: g.Clusters}})
		}

		oidc, err := auth.NewOIDC(issuer)
		if err != nil {
			return nil, fmt.Errorf("oidc: %w", err)
		}

		ways = append(ways, oidc)
	}

	if k := cfg.Kubernetes; k != nil {
		cluster, _, err := useKubernetes(home)
		if err != nil {
			return nil, fmt.Errorf("api.kubernetes: %w", err)
		}

		tokens, rights, err := auth.Reviewers(cluster)
		if err != nil {
			return nil, fmt.Errorf("kubernetes: %w", err)
		}

		ways = append(ways, auth.NewKubernetes(auth.KubernetesConfig{Reviews: tokens, Access: rights, Audiences: k.Audiences}))
	}

	return ways, nil
}

// run serves until ctx ends.
func (c *calls) run(ctx context.Context, engine *sync.Engine) error {
	c.access.Clusters = engine
	c.config.Engine, c.config.Access = engine, access.NewIssuer(c.access)
	handler := api.New(c.config)

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, handler.Close)()

	group, ctx := errgroup.WithContext(ctx)

	if c.socket != nil {
		c.socket.Handler = handler
		c.log.Info("listening for `omni-syncd status` and its like", zap.String("socket", c.socket.Addr()))
		group.Go(func() error { return c.socket.Run(ctx) })
	}

	if c.server != nil {
		c.server.Handler = auth.Require(auth.Config{Authenticators: c.ways, Logger: c.log}, handler)
		c.log.Info("listening for the API", zap.String("address", c.server.Addr()))
		group.Go(func() error { return c.server.Run(ctx) })
	}

	group.Go(func() error {
		<-ctx.Done()

		return nil
	})

	return group.Wait()
}

// close gives back what was taken, if run is never called.
func (c *calls) close() error {
	var errs []error

	for _, s := range []*server.Server{c.socket, c.server} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}

	return errors.Join(errs...)
}

const socketName = "omni-syncd.sock"

// defaultSocket is where a daemon listens unless somebody says otherwise; "" if the
// environment names no place.
func defaultSocket() string {
	// systemd gives a service its own directory; of several, the first one.
	for _, directory := range []string{firstOf(filepath.SplitList(os.Getenv("RUNTIME_DIRECTORY"))...), os.Getenv("XDG_RUNTIME_DIR")} {
		if directory != "" {
			return filepath.Join(directory, socketName)
		}
	}

	return ""
}

// serviceSocket is where a daemon listens that systemd runs with RuntimeDirectory=omni-syncd.
const serviceSocket = "/run/omni-syncd/" + socketName
