package demo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// stopPatience is what an agent has between TERM and KILL.
	stopPatience = 5 * time.Second
	// logTailLines of a log are shown when its agent ends by itself.
	logTailLines = 3
	logTailBytes = 4 << 10
)

// starter starts processes from one thread. The kernel sends a child its
// PDEATHSIG when that thread ends, so it lasts until close.
type starter struct {
	work chan func()
	done sync.WaitGroup
}

func newStarter() *starter {
	s := &starter{work: make(chan func())}
	s.done.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for f := range s.work {
			f()
		}
	})
	return s
}

func (s *starter) start(cmd *exec.Cmd) error {
	started := make(chan error)
	s.work <- func() { started <- cmd.Start() }
	return <-started
}

func (s *starter) close() {
	close(s.work)
	s.done.Wait()
}

// process is an agent that was started. gone is closed when it has ended.
type process struct {
	Agent
	log  string
	cmd  *exec.Cmd
	gone chan struct{}
}

// launch starts an agent in a process group of its own: Ctrl-C at the terminal
// is ours, and what follows from it has an order.
func (s *starter) launch(a Agent, dir string, exits chan<- *process, waits *sync.WaitGroup) (*process, error) {
	p := &process{Agent: a, log: filepath.Join(dir, a.Name+".log"), gone: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(a.Command[0], a.Command[1:]...)
	p.cmd.Env, p.cmd.Dir = withoutOurs(os.Environ()), dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", a.Name, err)
	}
	p.PID = p.cmd.Process.Pid
	waits.Go(func() {
		// How it ended is in ProcessState.
		_ = p.cmd.Wait()
		close(p.gone)
		exits <- p // has room for every process
	})
	return p, nil
}

// tail is the end of the log, for people.
func (p *process) tail() []string {
	f, err := os.Open(p.log)
	if err != nil {
		return nil
	}
	defer f.Close()
	text := make([]byte, logTailBytes)
	from := int64(0)
	if info, err := f.Stat(); err == nil {
		from = max(0, info.Size()-logTailBytes)
	}
	n, _ := f.ReadAt(text, from)
	lines := strings.Split(strings.TrimSpace(string(text[:n])), "\n")
	return lines[max(0, len(lines)-logTailLines):]
}

func (p *process) alive() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// stop ends processes together: TERM, and KILL for those that stay, at once if
// hurry is closed. It returns when they are gone.
func stop(all []*process, hurry <-chan struct{}) (killed []string) {
	for _, p := range all {
		// One that is gone needs none.
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	late := false
	for _, p := range all {
		if !late {
			select {
			case <-p.gone:
				continue
			case <-timer.C:
			case <-hurry:
			}
			late = true
		}
		if p.alive() {
			killed = append(killed, p.Name)
			_ = p.cmd.Process.Kill()
		}
	}
	for _, p := range all {
		<-p.gone
	}
	slices.Sort(killed)
	return killed
}
