package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	gosync "sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

const (
	// startLimit is how long the service manager waits for the first whole view. After it
	// the service counts as started all the same: it serves its API and goes on trying, a
	// restart would bring neither Omni nor Git back, and at boot everything that is ordered
	// after multi-user.target would hang on it.
	startLimit = 2 * time.Minute
	// startSlack is how much longer than that systemd is asked to wait.
	startSlack = 30 * time.Second
	// statusEvery is the least time between two looks at the status, startEvery before the
	// start is over: people wait for that.
	statusEvery, startEvery = time.Second, 100 * time.Millisecond
	// lookAgain is how often a reason to wait is looked at anew: it may change unannounced.
	lookAgain = 5 * time.Second
)

// stage is what the service manager believes about the daemon.
type stage int

const (
	starting stage = iota
	serving
	reloading
	stopping
)

// notifier tells systemd, or whoever listens at $NOTIFY_SOCKET, how the daemon is: the
// protocol of sd_notify(3). A nil one tells nobody. Its methods may be called from anywhere.
type notifier struct {
	log      *zap.Logger
	watchdog time.Duration // how often it wants to hear of a daemon that lives; 0: never

	mu    gosync.Mutex
	stage stage
	// ignored is why the configuration file is not the one in force; nil if it is.
	ignored error
	fleet   string // the last line that was to be said
	told    string // what came of it
	deaf    bool   // the last message could not be sent
}

// newNotifier returns nil if nobody wants to be told.
func newNotifier(log *zap.Logger) (*notifier, error) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil, nil
	}

	watchdog, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("the watchdog that the service manager asks for: %w; it sets WATCHDOG_USEC and WATCHDOG_PID", err)
	}

	return &notifier{log: log, watchdog: watchdog}, nil
}

// run tells of an engine until ctx ends.
func (n *notifier) run(ctx context.Context, engine *sync.Engine) error {
	if n == nil {
		<-ctx.Done()

		return nil
	}

	n.move(starting, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (startLimit+startSlack).Microseconds()), starting)

	var group errgroup.Group

	group.Go(func() error { return n.follow(ctx, engine) })
	group.Go(func() error { return n.feed(ctx, engine.Alive) })

	return group.Wait()
}

// follow says when the daemon is ready and, at most once a second, how the fleet is.
func (n *notifier) follow(ctx context.Context, engine *sync.Engine) error {
	defer n.stop()

	overdue := time.Now().Add(startLimit)

	for ctx.Err() == nil {
		status, newer := engine.Status()
		waiting := waitsFor(status, engine.Snapshot.Err())
		pause, again := startEvery, time.After(lookAgain)

		if waiting == nil || !time.Now().Before(overdue) {
			n.started()
		}

		switch {
		case n.is(starting):
			n.say(waiting.Error())
		case waiting != nil:
			pause = statusEvery
			n.say(waiting.Error() + "; " + fleetLine(status))
		default:
			pause, again = statusEvery, nil
			n.say(fleetLine(status))
		}

		select {
		case <-ctx.Done():
		case <-time.After(pause):
			select {
			case <-ctx.Done():
			case <-newer:
			case <-again:
			}
		}
	}

	return nil
}

// feed keeps the watchdog quiet while the reconcile loop moves, and lets it restart the
// daemon when it does not.
func (n *notifier) feed(ctx context.Context, alive func() error) error {
	if n.watchdog == 0 {
		return nil
	}

	tick := time.NewTicker(n.watchdog / 2) // as sd_watchdog_enabled(3) wants it
	defer tick.Stop()

	for hung := false; ; {
		switch err := alive(); {
		case err == nil:
			hung = false

			n.alive()
		case !hung:
			hung = true

			n.log.Error("the watchdog is not fed any more", zap.Error(err))
			n.say(err.Error())
		}

		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// started ends the start, once.
func (n *notifier) started() { n.move(serving, sd.SdNotifyReady, starting) }

// asked says that a signal wants the configuration read again. systemd waits for a message
// that is younger than its request, so it is sent also while another reload is under way.
func (n *notifier) asked() { n.reload(serving, reloading) }

// reloading says that the configuration is about to become another one.
func (n *notifier) reloading() { n.reload(serving) }

func (n *notifier) reload(from ...stage) {
	n.move(reloading, sd.SdNotifyReloading+"\n"+sd.SdNotifyMonotonicUsec(), from...)
}

// reloaded ends what asked and reloading began: err says why the file is ignored, if it is.
func (n *notifier) reloaded(err error) {
	if n == nil {
		return
	}

	n.mu.Lock()
	n.ignored = err
	line := n.fleet
	n.mu.Unlock()

	n.move(serving, sd.SdNotifyReady, reloading)
	n.say(line)
}

// stop says that the daemon ends. Nothing is told after it.
func (n *notifier) stop() {
	n.move(stopping, sd.SdNotifyStopping+"\nSTATUS=stopping; writes under way are waited for", starting, serving, reloading)
}

// move goes to another stage and tells it, if the daemon is in one of those before it. One
// lock is held for both, so that messages leave in the order of what happened.
func (n *notifier) move(to stage, message string, from ...stage) {
	if n == nil {
		return
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	if slices.Contains(from, n.stage) {
		n.stage = to
		n.send(message)
	}
}

func (n *notifier) is(s stage) bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.stage == s
}

// say sets the line that `systemctl status` shows, if it is another one than before.
func (n *notifier) say(line string) {
	if n == nil {
		return
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	n.fleet = line

	if n.ignored != nil {
		line = "the configuration file is ignored: " + bounded(n.ignored.Error(), maxReason) + "; " + line
	}

	if line = bounded(line, maxStatus); n.stage == stopping || line == n.told {
		return
	}

	n.told = line
	n.send("STATUS=" + line)
}

// alive feeds the watchdog.
func (n *notifier) alive() {
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.stage != stopping {
		n.send(sd.SdNotifyWatchdog)
	}
}

// send hands a message over. The lock is held. One that cannot be sent is no reason to stop
// working: systemd restarts what it does not hear of, if it was told to.
func (n *notifier) send(message string) {
	_, err := sd.SdNotify(false, message)
	if err != nil && !n.deaf {
		n.log.Warn("the service manager does not hear of this daemon", zap.Error(err))
	}

	n.deaf = err != nil
}

// forward tells of every signal before it is handed on.
func (n *notifier) forward(ctx context.Context, signals <-chan os.Signal) <-chan os.Signal {
	if n == nil {
		return signals
	}

	forwarded := make(chan os.Signal)

	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-signals:
				n.asked()

				select {
				case <-ctx.Done():
					return
				case forwarded <- s:
				}
			}
		}
	}()

	return forwarded
}
