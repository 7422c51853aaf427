package main

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

const (
	// defaultInstance marks the Secrets of a daemon that was not given another name.
	defaultInstance = "omni-syncd"
	// secretsQPS and secretsBurst bound the requests for Secrets. One a minute is made for each
	// cluster.
	secretsQPS, secretsBurst = 50, 100
)

// accessSecrets are the Secrets with a kubeconfig for each cluster.
type accessSecrets struct {
	store       *access.Secrets // nil if there are to be none
	account     *access.ServiceAccount
	talosconfig bool
	issuer      access.IssuerConfig
	log         *zap.Logger
}

// openAccessSecrets checks all that can be checked without a call. Of several replicas one
// runs it at a time. mine, if not nil, says which clusters are this process's to care for.
func openAccessSecrets(all *config.Config, issuer access.IssuerConfig, mine func(cluster string) bool, log *zap.Logger) (*accessSecrets, error) {
	a, cfg := &accessSecrets{issuer: issuer, log: log}, all.Access.Secrets
	if cfg == nil {
		return a, nil
	}

	a.talosconfig = cfg.Talosconfig
	a.account = &access.ServiceAccount{User: cfg.ServiceAccount.User, Groups: cfg.ServiceAccount.Groups, TTL: time.Duration(cfg.ServiceAccount.TTL)}

	if err := access.NewIssuer(issuer).Check(access.Request{ServiceAccount: a.account}); err != nil {
		return nil, fmt.Errorf("access.secrets.serviceAccount: %w", err)
	}

	cluster, namespace, err := useKubernetes(&all.Kubernetes)
	if err != nil {
		return nil, fmt.Errorf("access.secrets: %w", err)
	}

	cluster.QPS, cluster.Burst = secretsQPS, secretsBurst

	client, err := coreclient.NewForConfig(cluster)
	if err != nil {
		return nil, fmt.Errorf("access.secrets: %w", err)
	}

	namespace = firstOf(cfg.Namespace, namespace)

	a.store, err = access.NewSecrets(access.SecretsConfig{
		Client: client.Secrets(namespace), Namespace: namespace,
		Form: access.Form(cfg.For), Name: cfg.Name, Labels: cfg.Labels, Instance: firstOf(cfg.Instance, defaultInstance), Mine: mine,
	})
	if err != nil {
		return nil, fmt.Errorf("access.secrets.%w", err)
	}

	return a, nil
}

// run keeps the Secrets until ctx ends. It can be called again after that, for the next term
// of leadership.
func (a *accessSecrets) run(ctx context.Context, engine *sync.Engine) error {
	if a.store == nil {
		<-ctx.Done()

		return nil
	}

	issuer := a.issuer
	issuer.Clusters = engine

	keeper, err := access.NewKeeper(access.KeeperConfig{
		Store: a.store, Issuer: access.NewIssuer(issuer), Engine: engine, Kubeconfig: true, Talosconfig: a.talosconfig, ServiceAccount: a.account, Logger: a.log,
	})
	if err != nil {
		return fmt.Errorf("access.secrets: %w", err)
	}

	return keeper.Run(ctx)
}
