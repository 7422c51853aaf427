package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
)

// kept waits until a cluster is marked as kept for a cause.
func (w *world) kept(ctx context.Context, name, cause string) {
	w.t.Helper()
	w.until(ctx, name+" is not kept", func() []string {
		r := w.cluster(ctx, name)
		if r == nil {
			w.fail("%s is gone", name)
		}

		if mark := diff.DepartureOf(r); mark.State != diff.Kept || mark.Cause != cause {
			return []string{fmt.Sprintf("%q %q", mark.State, mark.Cause)}
		}

		return nil
	})
}

// trapScope has the source read fewer files for a while. What it does not see has not left Git,
// also if it does leave meanwhile: it is kept until somebody confirms that.
func trapScope(ctx context.Context, w *world) string {
	if w.few(1) {
		return "there are too few clusters"
	}

	name := w.anyCluster()
	c := w.repo.now.clusters[name]

	w.configure(ctx, func(s *settings) { s.exclude = []string{c.file} })
	w.stays(ctx, name, "the source does not read its file")

	leaves := w.rng.IntN(2) == 0
	if leaves {
		delete(w.repo.now.clusters, name)
		w.must(w.repo.commit(ctx))
		w.kept(ctx, name, "place")
	}

	w.configure(ctx, func(s *settings) { s.exclude = nil })

	if leaves {
		w.stays(ctx, name, "it left while the source did not read its file")
	}

	return fmt.Sprintf("%s, left meanwhile: %v", name, leaves)
}

// trapBranch has the source read another branch, which lacks a cluster.
func trapBranch(ctx context.Context, w *world) string {
	if w.few(1) {
		return "there are too few clusters"
	}

	name := w.anyCluster()
	file := filepath.Join(folder, w.repo.now.clusters[name].file)

	var hash string

	for _, args := range [][]string{
		{"checkout", "-q", "-B", "release"}, {"rm", "-q", file}, {"commit", "-q", "-m", "another branch"}, {"rev-parse", "HEAD"}, {"checkout", "-q", "main"},
	} {
		out, err := w.repo.git(ctx, args...)
		w.must(err)

		if args[0] == "rev-parse" {
			hash = out
		}
	}

	w.configure(ctx, func(s *settings) { s.branch = "release" })
	w.until(ctx, "the daemon does not read the other branch", func() []string {
		if w.daemon.log.has(hash) {
			return nil
		}

		return []string{hash}
	})
	w.kept(ctx, name, "place")
	w.stays(ctx, name, "another branch lacks it")
	w.configure(ctx, func(s *settings) { s.branch = "main" })

	return name
}

// trapRepository has the source read a clone at another path: that is another repository, and
// nothing that came from the first is its business.
func trapRepository(ctx context.Context, w *world) string {
	mirror := filepath.Join(filepath.Dir(w.repo.dir), "mirror")
	w.must(os.RemoveAll(mirror))

	_, err := w.repo.git(ctx, "clone", "-q", "--bare", w.repo.dir, mirror)
	w.must(err)
	w.configure(ctx, func(s *settings) { s.url = mirror })
	w.accepted(ctx)
	w.linger(ctx)
	w.forbid("it came from another repository")
	w.tamper(ctx)
	wait(ctx, deleteAfter+underWay)
	w.check(time.Now().Add(-shadowLag))
	w.forbid("")
	w.configure(ctx, func(s *settings) { s.url = w.repo.dir })

	return ""
}

// trapFolder adds a source that reads a folder outside of Git, whose files come and go one by
// one, with a FIFO and a link that leads nowhere among them. Nobody can tell what left it.
func trapFolder(ctx context.Context, w *world) string {
	dir := filepath.Join(filepath.Dir(w.repo.dir), "folder")
	name := "f0"
	file := filepath.Join(dir, name+".yaml")
	text := (&cluster{control: []string{machine(100)}}).text(name)

	w.must(os.RemoveAll(dir))
	w.must(os.MkdirAll(dir, 0o755))
	w.must(os.WriteFile(file, []byte(text), 0o600))
	w.must(os.WriteFile(filepath.Join(dir, "other.yaml"), []byte((&cluster{control: []string{machine(101)}}).text("f1")), 0o600))
	w.configure(ctx, func(s *settings) { s.folder = dir })
	w.until(ctx, "the source of the folder makes no cluster", func() []string {
		if w.cluster(ctx, name) != nil && w.cluster(ctx, "f1") != nil {
			return nil
		}

		return []string{name}
	})

	how := w.rng.IntN(4)

	switch how {
	case 0:
		w.must(os.Remove(file))
		w.must(syscall.Mkfifo(file, 0o600))
	case 1:
		w.must(os.Remove(file))
		w.must(os.Symlink("nowhere", file))
	case 2:
		w.must(os.WriteFile(file, []byte(text[:len(text)/2]), 0o600))
	default:
		w.must(os.Remove(file))
	}

	w.stays(ctx, name, "nobody can tell what left a folder")

	w.must(os.RemoveAll(dir))
	w.stays(ctx, name, "nobody can tell what left a folder that is gone")
	w.configure(ctx, func(s *settings) { s.folder = "" })
	w.removed(ctx, name, "f1")

	return fmt.Sprint(how)
}

// removed removes clusters as the UI does.
func (w *world) removed(ctx context.Context, names ...string) {
	w.t.Helper()

	for _, name := range names {
		w.shadow.tears(ref{omni.ClusterType, name})

		if _, err := w.st.Teardown(ctx, omni.NewCluster(name).Metadata()); err != nil && !state.IsNotFoundError(err) {
			w.must(err)
		}

		w.until(ctx, "a cluster does not go", func() []string {
			r := w.cluster(ctx, name)
			if r == nil {
				return nil
			}

			if r.Metadata().Finalizers().Empty() { // an older Omni leaves that to who tore it down
				if err := w.st.Destroy(ctx, r.Metadata()); err != nil && !state.IsNotFoundError(err) {
					w.must(err)
				}
			}

			return []string{name}
		})
	}
}

// trapOldMarks makes clusters that carry the marks of other daemons: of a release before there
// was an origin, and of one that ended just before a teardown.
func trapOldMarks(ctx context.Context, w *world) string {
	name := "old"
	how := w.rng.IntN(4)

	r := omni.NewCluster(name)
	r.TypedSpec().Value.KubernetesVersion, r.TypedSpec().Value.TalosVersion = "1.34.3", "1.12.0"

	annotations := r.Metadata().Annotations()
	annotations.Set(diff.MarkSource, sourceName)

	origin := fmt.Sprintf(`{"repository":%q,"ref":"main","path":%q,"file":"clusters/old.yaml","commit":%q}`, w.place().Repository, folder, w.repo.hash)
	mark := `{"id":"00000000000000aa","revision":"main@sha1:00"}`

	switch how {
	case 0: // an earlier release
	case 1:
		annotations.Set(string(diff.Destroying), mark)
	case 2:
		annotations.Set(string(diff.Destroying), mark)
		annotations.Set(diff.MarkConfirmed, "00000000000000aa")
	default: // the same repository, in which nobody knows it
		annotations.Set(diff.MarkOrigin, origin)
		annotations.Set(string(diff.Destroying), mark)
	}

	w.budget(ctx)
	w.must(w.st.Create(ctx, r))

	if how < 3 {
		w.stays(ctx, name, "nobody knows where it came from")
	} else {
		wait(ctx, deleteAfter/2)
		w.check(time.Now().Add(-shadowLag))

		if now := w.cluster(ctx, name); now == nil || now.Metadata().Phase() != resource.PhaseRunning {
			w.fail("%s went by the mark of another daemon", name)
		}
	}

	w.removed(ctx, name)

	return fmt.Sprint(how)
}

// trapSecondDaemon runs another daemon with a source of the same name and another repository, as
// a copy of a configuration is made in haste. Neither touches what is the other's.
func trapSecondDaemon(ctx context.Context, w *world) string {
	dir := w.t.TempDir()

	w.must(os.Mkdir(filepath.Join(dir, "second"), 0o755))

	second, err := newRepo(ctx, filepath.Join(dir, "second"))
	w.must(err)

	taken := w.anyCluster()
	own := secondPrefix + "0"
	second.now.clusters[own] = &cluster{file: own + ".yaml", control: []string{machine(110)}}
	second.now.clusters[taken] = w.repo.now.clone().clusters[taken]
	second.now.clusters[taken].note++
	w.must(second.commit(ctx))

	config := filepath.Join(dir, "config.yaml")
	w.must(os.WriteFile(config, fmt.Appendf(nil, "omni: {endpoint: %q}\ndeleteWindow: %s\nsources:\n  - name: %s\n    git: {url: %q, branch: main}\n    path: %s\n    interval: 1s\n    prune: true\n    deleteAfter: %s\n",
		w.omni.Endpoint(), deleteWindow, sourceName, second.dir, folder, deleteAfter), 0o600))

	p := startProcess(ctx, config, []string{"OMNI_ENDPOINT=", "OMNI_SERVICE_ACCOUNT_KEY=" + w.omni.ServiceAccountKey(secondAccount), "HOME=" + dir})

	stop := sync.OnceValue(func() error {
		ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()

		return p.stop(ended)
	})
	defer stop() //nolint:errcheck // the test has failed already

	w.until(ctx, "the second daemon makes no cluster", func() []string {
		if w.cluster(ctx, own) != nil {
			return nil
		}

		return []string{own}
	})

	delete(second.now.clusters, taken)
	w.must(second.commit(ctx))

	if w.rng.IntN(2) == 0 {
		w.daemon.signal(syscall.SIGKILL)
	}

	w.tamper(ctx)
	w.stays(ctx, taken, "another repository lost it")
	w.must(stop())

	if crash := p.log.crashed(); crash != "" {
		w.fail("the second daemon crashed: %s", crash)
	}

	w.stays(ctx, own, "it came from another repository")
	w.removed(ctx, own)

	return taken
}
