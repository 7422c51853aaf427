package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/server"
	"github.com/omni-syncd/omni-syncd/pkg/server/webhook"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// webhooks is the listener for announcements. Its hooks are replaced with the
// configuration.
type webhooks struct {
	log     *zap.Logger
	server  *server.Server // nil if nothing listens
	handler atomic.Pointer[webhook.Handler]
	hooks   map[string]hookKey
}

// hookKey tells whether a hook changed.
type hookKey struct {
	config.Webhook

	ref    string
	origin origin
}

// listenForWebhooks takes the address, so that one that is in use is an error at start.
func listenForWebhooks(cfg *config.Config, from *origins, log *zap.Logger) (*webhooks, error) {
	w := &webhooks{log: log}

	if cfg.Webhooks == nil {
		return w, nil
	}

	if err := w.replace(cfg, from); err != nil {
		return nil, err
	}

	mux := http.NewServeMux()
	mux.HandleFunc("/hooks/", func(rw http.ResponseWriter, r *http.Request) { w.handler.Load().ServeHTTP(rw, r) })

	var err error

	w.server, err = server.Listen(server.Config{
		Listen: cfg.Webhooks.Listen, CertFile: cfg.Webhooks.CertFile, KeyFile: cfg.Webhooks.KeyFile, Handler: mux, Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("webhooks: %w", err)
	}

	return w, nil
}

// replace makes the hooks those of a configuration. If all stay the same they keep what
// they remember of deliveries; what else is forgotten costs a look at most.
func (w *webhooks) replace(cfg *config.Config, from *origins) error {
	if cfg.Webhooks == nil {
		return nil
	}

	keys := map[string]hookKey{}
	hooks := map[string]webhook.Hook{}

	for i := range cfg.Sources {
		src := &cfg.Sources[i]
		if src.Webhook == nil {
			continue
		}

		origin, err := from.open(src)
		if err != nil {
			return err
		}

		keys[src.Name] = hookKey{*src.Webhook, refOf(src.Git), origin}
		hooks[src.Name] = webhook.Hook{
			Provider: webhook.Provider(src.Webhook.Provider), SecretFile: src.Webhook.SecretFile, Ref: refOf(src.Git), Poke: origin.Poke,
		}
	}

	if w.handler.Load() != nil && maps.Equal(w.hooks, keys) {
		return nil
	}

	handler, err := webhook.New(webhook.Config{Hooks: hooks, Logger: w.log})
	if err != nil {
		return err
	}

	w.hooks = keys
	w.handler.Store(handler)

	return nil
}

// refOf is the ref whose announcements matter; "" if that is any branch.
func refOf(git *config.Git) string {
	switch {
	case git.Branch != "":
		return "refs/heads/" + git.Branch
	case git.Tag != "":
		return "refs/tags/" + git.Tag
	case git.SemVer != "":
		return "refs/tags/*"
	default:
		return git.Ref
	}
}

// run serves until ctx ends.
func (w *webhooks) run(ctx context.Context, _ *sync.Engine) error {
	if w.server == nil {
		<-ctx.Done()

		return nil
	}

	w.log.Info("listening for webhooks", zap.String("address", w.server.Addr()), zap.Bool("tls", w.server.CertFile != ""))

	return w.server.Run(ctx)
}
