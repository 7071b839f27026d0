package runner

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/raftlock/raftlock/internal/mutant"
)

// group is the process group that the command's process was started to lead. It
// is known by a pidfd of the leader: that names this group and never a later
// one of the same number, whether the leader lives, is gone or was waited for.
type group struct {
	id int
	fd int // -1: the kernel gives none
}

func (g group) close() {
	if g.fd >= 0 {
		_ = unix.Close(g.fd)
	}
}

// pidfdProcessGroup is PIDFD_SIGNAL_PROCESS_GROUP, of Linux 6.9.
const pidfdProcessGroup = 1 << 2

// signal sends to all of the group. ESRCH: nothing is left of it, and nothing
// will come, since only a member can bring another in. Before Linux 6.9 the
// group is known by its number alone: who signals must know that it is not gone.
func (g group) signal(s syscall.Signal) error {
	if g.fd >= 0 {
		err := unix.PidfdSendSignal(g.fd, s, nil, pidfdProcessGroup)
		if err != unix.EINVAL && err != unix.ENOSYS {
			return err
		}
	}
	return unix.Kill(-g.id, s)
}

// empty reports whether all of the group have exited. Those that nobody has
// waited for count as gone, though their group and its number live on: what
// they had open is closed. After a SIGKILL to the group the answer is final,
// since a process that has one pending cannot fork.
func (g group) empty() bool {
	if g.signal(0) == unix.ESRCH {
		return true
	}
	// It has members, so the number means this group and no other.
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, p := range processes {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		// One that went meanwhile has no stat, and is no member.
		stat, err := os.ReadFile("/proc/" + p.Name() + "/stat")
		if err == nil && livesIn(string(stat), g.id) {
			return false
		}
	}
	return true
}

// livesIn reads a line of /proc/PID/stat.
func livesIn(stat string, id int) bool {
	// The name comes in parentheses and may hold anything, parentheses too.
	const state, pgrp, threads = 0, 2, 17
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= threads || fields[pgrp] != strconv.Itoa(id) {
		return false
	}
	switch fields[state] {
	case "X":
		return false
	case "Z":
		// A first thread that has ended, or all of them.
		return fields[threads] != "1" && fields[threads] != "0"
	}
	return true
}

// emptyPauseMax bounds the pause between two looks at a group that does not end.
const emptyPauseMax = 50 * time.Millisecond

// kill ends all of the group, and returns when nothing of it is left: true. It
// gives up when the clock reads until.
func (g group) kill(until time.Duration) bool {
	return killed(g.signal, g.empty, until)
}

func killed(signal func(syscall.Signal) error, empty func() bool, until time.Duration) bool {
	for pause := time.Millisecond; ; pause = min(2*pause, emptyPauseMax) {
		// Again each time: a process from outside may have come in by setpgid.
		if signal(unix.SIGKILL) == unix.ESRCH || mutant.On("run-warden-last") || empty() {
			return true
		}
		if clock() >= until {
			return false
		}
		time.Sleep(pause)
	}
}
