package kube

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
)

// process is a running binary. It ends with the process of the tests, however that ends,
// where the system has that.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended; err is set then
	err  error
}

// exitError says that a process ended by itself.
type exitError struct {
	name string
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("%s ended: %v", e.name, e.err) }

// run starts a binary, which writes to a log.
func (c *Cluster) run(name, binary string, args ...string) (*process, error) {
	p := &process{name: name, log: c.path(name + ".log"), cmd: exec.Command(binary, args...), done: make(chan struct{})}

	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the process has it

	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = c.dir, log, log
	p.cmd.SysProcAttr = endsWithParent()

	started := make(chan error)

	go func() {
		// The signal comes when the thread ends that started the process, so it is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()

		err := p.cmd.Start()
		started <- err

		if err == nil {
			p.err = p.cmd.Wait()
		}

		close(p.done)
	}()

	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}

	c.processes = append(c.processes, p)

	return p, nil
}

// kill ends a process and waits for that. What it kept is thrown away, so it need not tidy.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error says that it has ended

	<-p.done
}
