package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/test/kube"
	"github.com/omni-syncd/omni-syncd/test/secrets"
)

func TestMain(m *testing.M) {
	testscript.Main(kube.Wrap(m), map[string]func(){"omni-syncd": main})
}

// storyTimeout bounds every wait of a story. It costs nothing when the story succeeds, and a machine that is busy with many
// stories and a real Omni needs more than a minute for a write.
const storyTimeout = 3 * time.Minute

// TestStories runs the scripts in testdata/stories with the real binary. Each gets an
// embedded Omni of its own, or, if OMNI_ENDPOINT is set, all of them share that one: the
// same stories on both, so that the embedded Omni cannot drift from the real one unseen.
//
// In a script $PREFIX is random. It starts the name of everything the script makes, its
// sources included: what carries their marks is removed at the end (see
// stories_cleanup_test.go). $M1 to $M9 are the IDs of machines that nobody else uses. See
// stories_commands_test.go for the commands that act on Omni behind omni-syncd's back.
func TestStories(t *testing.T) {
	// Who interrupts the stories wants them to end, and not to leave anything behind; a second signal ends the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop) // the stories run in parallel, which is after this function
	context.AfterFunc(ctx, stop)

	params := testscript.Params{
		Dir:                 filepath.Join("testdata", "stories"),
		Cmds:                storyCommands,
		Condition:           storyCondition,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	}

	cleanup := cleanupTime(time.Hour)

	if end, ok := t.Deadline(); ok {
		cleanup = cleanupTime(time.Until(end))
		params.Deadline = end.Add(-cleanup)

		bounded, cancel := context.WithDeadline(ctx, params.Deadline)
		t.Cleanup(cancel)

		ctx = bounded
	}

	params.Setup = func(env *testscript.Env) error { return setUpStory(ctx, env, cleanup*2/3) }

	testscript.Run(t, params)
}

// TestOffline runs the scripts that need no Omni.
func TestOffline(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "offline"),
		Setup:               func(env *testscript.Env) error { isolate(env); return nil },
		Cmds:                storyCommands,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
	})
}

// story is what the commands of a script share.
type story struct {
	ctx    context.Context //nolint:containedctx // the commands of a script are given none
	conn   *omni.Conn
	server *embedded.Server // nil when the stories run against a real Omni
	prefix string
	made   []resource.Metadata // by commands, which set no mark
}

type storyKey struct{}

func storyOf(ts *testscript.TestScript) *story { return ts.Value(storyKey{}).(*story) }

// waitContext bounds a wait of a story: by storyTimeout, and by the end of all stories.
func waitContext(ts *testscript.TestScript) (context.Context, context.CancelFunc) {
	return context.WithTimeout(storyOf(ts).ctx, storyTimeout)
}

// storyCondition knows [embedded], and [omni:1.11]: that the Omni is of this release or newer. A story that needs a release says in its file
// omni-version which one its own embedded Omni plays.
func storyCondition(cond string) (bool, error) {
	embedded := os.Getenv(envEndpoint) == ""

	if cond == "embedded" {
		return embedded, nil
	}

	if release, ok := strings.CutPrefix(cond, "omni:"); ok {
		if embedded {
			return true, nil
		}

		server, err := sharedServer()

		return server.Has(release), err
	}

	return false, fmt.Errorf("unknown condition %q", cond)
}

// isolate gives a script an environment in which nothing of the person who runs the
// tests matters.
func isolate(env *testscript.Env) {
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	env.Setenv("GIT_AUTHOR_NAME", "Story")
	env.Setenv("GIT_AUTHOR_EMAIL", "story@example.com")
	env.Setenv("GIT_COMMITTER_NAME", "Story")
	env.Setenv("GIT_COMMITTER_EMAIL", "story@example.com")
	env.Setenv(envEndpoint, "")
	env.Setenv(envKey, "")
}

func setUpStory(ctx context.Context, env *testscript.Env, cleanup time.Duration) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("the story is not begun: %w", err)
	}

	isolate(env)
	env.Defer(func() { noSecrets(env) })

	tb, ok := env.T().(testing.TB)
	if !ok {
		return fmt.Errorf("%T has no Cleanup", env.T())
	}

	s := &story{ctx: ctx, prefix: "story-" + random(4)}
	env.Values[storyKey{}] = s
	env.Setenv("PREFIX", s.prefix)

	port, err := freePort()
	if err != nil {
		return err
	}

	env.Setenv("PORT", port)

	for i := 1; i <= 9; i++ {
		id := random(16)
		env.Setenv(fmt.Sprintf("M%d", i), fmt.Sprintf("%s-%s-4%s-8%s-%s", id[:8], id[8:12], id[13:16], id[17:20], id[20:32]))
	}

	endpoint, key := os.Getenv(envEndpoint), os.Getenv(envKey)

	if endpoint == "" {
		version, err := storyRelease(env)
		if err != nil {
			return err
		}

		server, err := startEmbedded(tb, version)
		if err != nil {
			return err
		}

		s.server = server
		endpoint, key = server.Endpoint(), server.ServiceAccountKey(embedded.AccountOperator)
	}

	env.Setenv(envEndpoint, endpoint)
	env.Setenv(envKey, key)
	env.Setenv("SSL_CERT_FILE", os.Getenv("SSL_CERT_FILE"))

	conn, err := omni.Dial(omni.ConnConfig{Endpoint: endpoint, ServiceAccountKey: key})
	if err != nil {
		return err
	}

	s.conn = conn

	tb.Cleanup(func() {
		defer conn.Close() //nolint:errcheck // nothing is lost with a connection

		s.cleanUp(tb, cleanup)
	})

	return nil
}

// storyRelease is the version that the embedded Omni of a story plays; "" if the story does not say.
func storyRelease(env *testscript.Env) (string, error) {
	release, err := os.ReadFile(filepath.Join(env.WorkDir, "omni-version"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}

	return embedded.VersionOf(strings.TrimSpace(string(release)))
}

// sharedServer is the version of the Omni that the stories share.
var sharedServer = sync.OnceValues(func() (omni.Server, error) {
	conn, err := omni.Dial(omni.ConnConfig{Endpoint: os.Getenv(envEndpoint), ServiceAccountKey: os.Getenv(envKey)})
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection

	ctx, cancel := context.WithTimeout(context.Background(), storyTimeout)
	defer cancel()

	version, err := safe.StateGetByID[*system.SysVersion](ctx, conn.State(), system.SysVersionID)
	if err != nil {
		return "", err
	}

	return omni.Server(version.TypedSpec().Value.GetBackendVersion()), nil
})

// noSecrets fails a story that leaves a secret in a log (G9): the files into which stories
// write what daemons and verbs say.
func noSecrets(env *testscript.Env) {
	err := filepath.WalkDir(env.WorkDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}

		name := entry.Name()
		if !entry.Type().IsRegular() || !strings.HasPrefix(name, "log") && !strings.HasSuffix(name, ".log") && name != "watched" {
			return nil
		}

		data, err := os.ReadFile(path)
		if found := secrets.Find(data); err == nil && found != "" {
			err = fmt.Errorf("%s holds a secret: %s…", name, found)
		}

		return err
	})
	if err != nil {
		env.T().Fatal("looking for secrets in logs: ", err)
	}
}

func startEmbedded(tb testing.TB, version string) (*embedded.Server, error) {
	server, err := embedded.New(embedded.Config{HealthyMachines: true, Version: version})
	if err != nil {
		return nil, err
	}

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- server.Run(ctx) }()

	tb.Cleanup(func() {
		stop()

		if err := <-done; err != nil {
			tb.Log("embedded Omni: ", err)
		}
	})

	return server, nil
}

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b)

	return hex.EncodeToString(b)
}

// expand replaces $NAME of the story's variables in a text; everything else that looks
// like a variable stays.
func expand(ts *testscript.TestScript, text string) string {
	for _, name := range []string{"PREFIX", "PORT"} {
		text = strings.ReplaceAll(text, "$"+name, ts.Getenv(name))
	}

	for i := 1; i <= 9; i++ {
		name := fmt.Sprintf("M%d", i)
		text = strings.ReplaceAll(text, "$"+name, ts.Getenv(name))
	}

	return text
}
