package runner

import (
	"encoding/binary"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// post is a warden in this process, and the runner's end of its line.
type post struct {
	t      *testing.T
	group  group
	cmd    *exec.Cmd
	runner int
	line   line
	left   chan error
}

func postWarden(t *testing.T) *post {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &post{t: t, runner: ends[0], line: line(ends[1]), left: make(chan error, 1)}
	p.group, p.cmd = lead(t, "trap '' TERM; sleep 60 & sleep 60")
	return p
}

func (p *post) tell(order time.Duration) {
	p.t.Helper()
	if err := unix.Sendmsg(p.runner, binary.LittleEndian.AppendUint64(nil, uint64(order)), nil, nil, 0); err != nil {
		p.t.Fatal(err)
	}
}

func (p *post) begin() { go func() { p.left <- p.line.obey(p.group); _ = unix.Close(int(p.line)) }() }

// die closes the runner's end.
func (p *post) die() { _ = unix.Close(p.runner) }

// leaves waits for the warden and checks what it left.
func (p *post) leaves(alive bool) {
	p.t.Helper()
	if err := <-p.left; err != nil {
		p.t.Fatal(err)
	}
	if p.group.empty() == alive {
		p.t.Errorf("the group lives: %v, want %v", !alive, alive)
	}
}

func TestWarden(t *testing.T) {
	for _, c := range []struct {
		name   string
		orders []time.Duration // from now on; done is 0
		alive  bool
	}{
		{"done", []time.Duration{time.Hour, wardenDone}, true},
		{"done, though the time had come", []time.Duration{-1, wardenDone}, true},
		{"done before anything ran", []time.Duration{wardenDone}, true},
		{"an orphan", []time.Duration{time.Hour}, false},
		{"an orphan before anything ran", nil, true},
		{"an orphan when the time has come", []time.Duration{time.Hour, -1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := postWarden(t)
			// All before it looks: it has to read them all.
			for _, order := range c.orders {
				if order != wardenDone {
					order += clock()
				}
				p.tell(order)
			}
			p.die()
			p.begin()
			p.leaves(c.alive)
		})
	}
}

func TestWardenKillsByTheClock(t *testing.T) {
	p := postWarden(t)
	defer p.die()
	p.tell(clock() + 20*time.Millisecond)
	at := clock() + 200*time.Millisecond
	p.tell(at) // the newest counts
	p.begin()
	report := make([]byte, reportMax)
	if err := line(p.runner).await(-1); err != nil {
		t.Fatal(err)
	}
	if n, _, err := line(p.runner).receive(report); err != nil || string(report[:n]) != reportFired {
		t.Fatalf("%q, %v", report[:n], err)
	}
	if now := clock(); now < at {
		t.Errorf("killed %v before its time", at-now)
	}
	_ = p.cmd.Wait() // killed, though there is a runner
	if s := p.cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != syscall.SIGKILL {
		t.Errorf("%v", p.cmd.ProcessState)
	}
	p.tell(wardenDone)
	p.leaves(false)
}

// One whose time was moved in time, while it could not look.
func TestWardenReadsBeforeItJudges(t *testing.T) {
	p := postWarden(t)
	p.tell(clock() - 1)
	p.tell(clock() + time.Hour)
	p.begin()
	p.tell(wardenDone)
	p.leaves(true)
	p.die()
}
