package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is the daemon under a supervisor that starts it again whenever it ends, as
// systemd and Kubernetes do.
type process struct {
	config string
	env    []string
	log    log

	mu      sync.Mutex
	current *exec.Cmd
	starts  int
	born    time.Time // of the last one
	stopped bool
	ended   chan error // the last process's, after stop
}

// restartAfter is the supervisor's pause after an end that nobody asked for.
const restartAfter = 200 * time.Millisecond

func startProcess(ctx context.Context, config string, env []string) *process {
	p := &process{config: config, env: env, ended: make(chan error, 1)}

	go p.supervise(ctx)

	return p
}

func (p *process) supervise(ctx context.Context) {
	for {
		cmd := exec.Command(binary, "run", "--config", p.config, "--log-level", "debug")
		cmd.Env = append(os.Environ(), p.env...)
		cmd.Stdout, cmd.Stderr = &p.log, &p.log

		p.mu.Lock()
		if p.stopped {
			p.mu.Unlock()
			p.ended <- nil

			return
		}

		err := cmd.Start()
		p.current = cmd
		p.starts++
		p.born = time.Now()
		p.mu.Unlock()

		if err == nil {
			err = cmd.Wait()
		}

		p.log.ended(err)

		p.mu.Lock()
		stopped := p.stopped
		p.mu.Unlock()

		if stopped {
			p.ended <- err

			return
		}

		wait(ctx, restartAfter)
	}
}

// signal sends a signal to the running daemon.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.current != nil && p.current.Process != nil {
		p.current.Process.Signal(s) //nolint:errcheck // it may have ended by itself
	}
}

// stop ends the daemon in order and returns how it ended.
func (p *process) stop(ctx context.Context) error {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.signal(syscall.SIGTERM)

	select {
	case err := <-p.ended:
		return err
	case <-ctx.Done():
		p.signal(syscall.SIGKILL)

		return fmt.Errorf("SIGTERM did not end the daemon: %w", ctx.Err())
	}
}

// log keeps the end of what the daemon writes.
type log struct {
	mu    sync.Mutex
	text  []byte
	rest  []byte // the line that is being written
	crash string
	// revision is the last one that the running daemon said it has.
	revision string
	moments  []moment // all that matter
}

const logTail = 24 << 10

// newRevision is what the daemon says when it has a revision and is about to apply it.
var newRevision = regexp.MustCompile(`^(\S+) .*new revision targets=.*revision=\S+@sha1:([0-9a-f]{12,40}) source=` + sourceName + `$`)

// readAgain is what it says when it has a configuration.
var readAgain = regexp.MustCompile(`^(\S+) .*the configuration was read again`)

// Write implements io.Writer.
func (l *log) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.text = append(l.text, data...)

	l.rest = append(l.rest, data...)

	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			break
		}

		l.rest = rest
		l.read(line)
	}

	if len(l.text) > 4*logTail {
		l.text = append([]byte(nil), l.text[len(l.text)-logTail:]...)
	}

	return len(data), nil
}

// read takes what a line of the log says.
func (l *log) read(line []byte) {
	if m := newRevision.FindSubmatch(line); m != nil {
		l.revision = string(m[2])
		l.moments = append(l.moments, moment{at: clock(string(m[1])), what: accepted, hash: l.revision})
	}

	if m := readAgain.FindSubmatch(line); m != nil {
		l.moments = append(l.moments, moment{at: clock(string(m[1])), what: configured})
		l.revision = "" // it may read from elsewhere
	}

	for _, sign := range []string{"panic:", "fatal error:", "DATA RACE"} {
		if l.crash == "" && bytes.Contains(line, []byte(sign)) {
			l.crash = string(line)
		}
	}
}

// has reports whether the daemon that runs has a revision.
func (l *log) has(hash string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.revision != "" && strings.HasPrefix(hash, l.revision)
}

// ended notes that a process is no more: the next one knows nothing.
func (l *log) ended(err error) {
	fmt.Fprintf(l, "\n--- the daemon ended: %v\n", err)

	l.mu.Lock()
	defer l.mu.Unlock()

	l.revision = ""
	l.moments = append(l.moments, moment{at: time.Now(), what: ended})
}

func (l *log) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return string(l.text[max(0, len(l.text)-logTail):])
}

// crashed returns the first sign of a crash.
func (l *log) crashed() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.crash
}

// started is how many processes there were.
func (p *process) started() int {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.starts
}

func (p *process) bornAt() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.born
}

// running reports whether nobody has stopped the daemon yet.
func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	return !p.stopped
}
