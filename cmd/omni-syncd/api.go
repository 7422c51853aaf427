package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/pkg/config"
	"github.com/omni-syncd/omni-syncd/pkg/server"
	"github.com/omni-syncd/omni-syncd/pkg/server/api"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// calls is the listener of the daemon's API.
type calls struct {
	server  *server.Server // nil if nothing listens
	history api.History
	log     *zap.Logger
}

// listenForCalls takes the socket, so that one that is in use is an error at start. path is
// what somebody chose; else the default holds, which a second daemon of the same user
// has to do without.
func listenForCalls(path string, history *runningHistory, log *zap.Logger) (*calls, error) {
	c := &calls{log: log}
	if history != nil {
		c.history = history
	}

	chosen := path != ""
	if !chosen {
		path = defaultSocket()
	}

	switch path {
	case config.None:
		return c, nil
	case "":
		log.Info("there is no API: neither `api.socket` nor --socket says where, and $RUNTIME_DIRECTORY and $XDG_RUNTIME_DIR are not set")

		return c, nil
	}

	var err error

	c.server, err = server.Listen(server.Config{Socket: path, Logger: log})

	switch {
	case err == nil:
		return c, nil
	case chosen:
		return nil, fmt.Errorf("the API: %w", err)
	default:
		log.Warn("there is no API; choose a path with `api.socket` or --socket", zap.Error(err))

		return c, nil
	}
}

// run serves until ctx ends.
func (c *calls) run(ctx context.Context, engine *sync.Engine) error {
	if c.server == nil {
		<-ctx.Done()

		return nil
	}

	handler := api.New(api.Config{Engine: engine, History: c.history, Logger: c.log})
	c.server.Handler = handler

	defer context.AfterFunc(ctx, handler.Close)()

	c.log.Info("listening for `omni-syncd status` and its like", zap.String("socket", c.server.Addr()))

	return c.server.Run(ctx)
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
