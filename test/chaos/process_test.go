package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
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
		p.mu.Unlock()

		if err == nil {
			err = cmd.Wait()
		}

		fmt.Fprintf(&p.log, "--- the daemon ended: %v\n", err)

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
	crash string
}

const logTail = 24 << 10

// Write implements io.Writer.
func (l *log) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.text = append(l.text, data...)

	for _, sign := range []string{"panic:", "fatal error:", "DATA RACE"} {
		if l.crash == "" && bytes.Contains(data, []byte(sign)) {
			l.crash = string(data)
		}
	}

	if len(l.text) > 4*logTail {
		l.text = append([]byte(nil), l.text[len(l.text)-logTail:]...)
	}

	return len(data), nil
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

// running reports whether nobody has stopped the daemon yet.
func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	return !p.stopped
}
