package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// stopBound is how long a process has to stop in order.
const stopBound = 10 * time.Second

// children are the processes that the program started.
type children struct {
	dir string // where their output goes
	all []*child
}

type child struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	ended  chan struct{}
	err    error // readable once ended is closed
	// reading is what reads stdout, which ends with the process.
	reading sync.WaitGroup
}

// startOptions are what differs between processes.
type startOptions struct {
	path string
	args []string
	env  []string
	// talk connects stdin and stdout to this program.
	talk bool
}

// start starts a process. It must be called on the main goroutine, whose thread
// the process's life hangs on.
func (c *children) start(name string, o startOptions) (*child, error) {
	log, err := os.Create(filepath.Join(c.dir, name+".log"))
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	p := &child{name: name, cmd: exec.Command(o.path, o.args...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), o.env...)
	p.cmd.Stderr = log
	// A group of its own: Ctrl-C is for this program, which stops the others in
	// order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if o.talk {
		if p.stdin, err = p.cmd.StdinPipe(); err == nil {
			p.stdout, err = p.cmd.StdoutPipe()
		}
	} else {
		p.cmd.Stdout = log
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c.all = append(c.all, p)
	go func() {
		defer close(p.ended)
		state, err := p.cmd.Process.Wait()
		if p.err = err; err == nil {
			p.err = errors.New(state.String())
		}
	}()
	return p, nil
}

// stop ends every process and waits until it is gone.
func (c *children) stop() {
	for _, p := range c.all {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	bound := time.NewTimer(stopBound)
	defer bound.Stop()
	late := false
	for _, p := range c.all {
		for gone := false; !gone; {
			if late {
				_ = p.cmd.Process.Kill()
				<-p.ended
			}
			select {
			case <-p.ended:
				gone = true
			case <-bound.C:
				late = true
			}
		}
		if p.stdin != nil {
			_ = p.stdin.Close()
			_ = p.stdout.Close()
			p.reading.Wait()
		}
	}
	c.all = nil
}

// dead is the error of the first process that ended by itself.
func dead(list []*child) error {
	for _, p := range list {
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended: %w", p.name, p.err)
		default:
		}
	}
	return nil
}

// pids are the processes to add up.
func pids(list []*child) []int {
	var out []int
	for _, p := range list {
		out = append(out, p.cmd.Process.Pid)
	}
	return out
}

// until asks again and again until done says yes, a process ends, or ctx does.
func until(ctx context.Context, what string, list []*child, done func() (bool, error)) error {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		ok, err := done()
		if ok {
			return nil
		}
		if gone := dead(list); gone != nil {
			return fmt.Errorf("%s: %w", what, gone)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: %w", what, ctx.Err()), err) // err is the newest obstacle
		}
	}
}
