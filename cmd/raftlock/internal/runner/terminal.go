package runner

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal is the controlling terminal on the standard input, if it is one.
type terminal struct {
	fd  int
	own int // the runner's process group
}

// terminalOf returns nil where f is no terminal of this session.
func terminalOf(f *os.File) *terminal {
	t := &terminal{fd: int(f.Fd()), own: unix.Getpgrp()}
	if _, err := t.foreground(); err != nil {
		return nil
	}
	return t
}

func (t *terminal) foreground() (int, error) { return unix.IoctlGetInt(t.fd, unix.TIOCGPGRP) }

// ours reports whether the terminal is the runner's to hand on: not when it
// was started in the background.
func (t *terminal) ours() bool {
	if t == nil {
		return false
	}
	pgrp, err := t.foreground()
	return err == nil && pgrp == t.own
}

// give makes pgrp the foreground group.
func (t *terminal) give(pgrp int) error {
	// From the background this raises SIGTTOU, which would stop the runner
	// unless the calling thread blocks it. Ignoring it instead would be
	// inherited by the command.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, before unix.Sigset_t
	block.Val[0] = 1 << (uint(syscall.SIGTTOU) - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before); err != nil {
		return err
	}
	err := unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, pgrp)
	if restore := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); err == nil {
		err = restore
	}
	return err
}

// takeBack makes the runner's group the foreground again, unless somebody else
// is by now: a shell that resumed another job.
func (t *terminal) takeBack(from int) {
	if t == nil {
		return
	}
	if pgrp, err := t.foreground(); err == nil && pgrp == from {
		// A terminal that is gone needs no foreground.
		_ = t.give(t.own)
	}
}
