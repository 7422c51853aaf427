package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// issuing says what a daemon hands out, but not of which clusters: the engine knows that.
func issuing(cfg *config.Access, conn *omni.Conn, log *zap.Logger) (access.IssuerConfig, error) {
	issuer := access.IssuerConfig{Omni: conn, Logger: log}

	if s := cfg.ServiceAccounts; s != nil {
		issuer.ServiceAccounts = &access.ServiceAccountPolicy{MaxTTL: time.Duration(s.MaxTTL), Users: s.Users, Groups: s.Groups}
	}

	if err := issuer.ServiceAccounts.Validate(); err != nil {
		return issuer, fmt.Errorf("access.serviceAccounts: %w", err)
	}

	return issuer, nil
}

// accessDirectory is the directory with a kubeconfig and a talosconfig for each cluster.
type accessDirectory struct {
	directory *access.Directory // nil if there is to be none
	account   *access.ServiceAccount
	issuer    access.IssuerConfig
	log       *zap.Logger
}

// openAccessDirectory takes the directory, so that one that is in use is an error at start.
func openAccessDirectory(cfg *config.AccessDirectory, issuer access.IssuerConfig, log *zap.Logger) (*accessDirectory, error) {
	a := &accessDirectory{issuer: issuer, log: log}

	if cfg == nil {
		return a, nil
	}

	if s := cfg.ServiceAccount; s != nil {
		a.account = &access.ServiceAccount{User: s.User, Groups: s.Groups, TTL: time.Duration(s.TTL)}

		if err := access.NewIssuer(issuer).Check(access.Request{ServiceAccount: a.account}); err != nil {
			return nil, fmt.Errorf("access.directory.serviceAccount: %w", err)
		}
	}

	var err error

	if a.directory, err = access.OpenDirectory(cfg.Path); err != nil {
		return nil, fmt.Errorf("access.directory: %w", err)
	}

	return a, nil
}

// run keeps the directory filled until ctx ends.
func (a *accessDirectory) run(ctx context.Context, engine *sync.Engine) error {
	if a.directory == nil {
		<-ctx.Done()

		return nil
	}

	a.issuer.Clusters = engine

	keeper, err := access.NewKeeper(access.KeeperConfig{
		Store: a.directory, Issuer: access.NewIssuer(a.issuer), Engine: engine, Kubeconfig: true, Talosconfig: true, ServiceAccount: a.account, Logger: a.log,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("access.directory: %w", err), a.directory.Close())
	}

	return errors.Join(keeper.Run(ctx), a.directory.Close())
}
