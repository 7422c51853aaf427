package bench

import (
	"testing"
	"time"

	live "github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/source"
	enginesync "github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
	"github.com/omni-syncd/omni-syncd/test/fleet"
)

// pushFigures is the whole way of a push: the webhook, the look at Git, the fetch, the plan and the first request to
// Omni. The repository is behind git's own http server.
func pushFigures(tb testing.TB, r *report) {
	var (
		f          = fleet.New(fleet.Config{Clusters: *large, Machines: largeMachines})
		repository = newRepository(tb, f.Files)
		server     = newGitServer(tb, repository.dir)
		targets    = rendered(tb, repository.fetch(tb))
	)

	for _, rtt := range rtts {
		writes := newWrites()
		o := startFar(tb, rtt, embedded.Config{OnWrite: writes.note})
		seed(tb, o.Omni, targets)

		git := source.NewGit(source.GitConfig{URL: server.url, StateDir: tb.TempDir(), Interval: time.Hour, Ref: source.Ref{Branch: "main"}})
		d := daemon.Start(tb, o.Omni, func(c *enginesync.Config, s *live.SnapshotConfig) {
			c.Sources[0].Source, s.Relist = git, time.Hour
		})
		rest := func() { d.Until(tb, func(s enginesync.Status) bool { return s.Settled() && s.Synced() }) }
		announce := newAnnouncer(tb, git.Poke)

		rest()

		pushed := least(5, func() measure {
			repository.commit(tb, f.With(0, repository.commits).Files)
			written := writes.next()

			m := o.taken(func() { announce(repository.commits); <-written })
			rest()

			return m
		})
		r.add(tb, figure{Name: "webhook to first write", Fleet: size(*large, largeMachines), RTT: rtt.String(), Ours: pushed})

		d.Stop(tb)
		check(tb, git.Close())
		o.Stop(tb)
	}
}
