package uds

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/raftlock/raftlock/internal/mutant"
)

// Inodes that every kernel gives to the namespaces it boots with.
const (
	initialPIDNamespace  = 0xEFFFFFFC
	initialTimeNamespace = 0xEFFFFFFA
)

// Kernel is what this host's kernel can say about processes, found out once. It
// holds no descriptors and may be shared and used from any goroutine.
type Kernel struct {
	// The seams through which tests play other kernels. peerPidfd is nil
	// without SO_PEERPIDFD (before Linux 6.5), pidfdOpen without pidfds.
	peerPidfd func(socket int) (pidfd int, err error)
	pidfdOpen func(pid int) (pidfd int, err error)
	stat      func(pid int32) ([]byte, error)
	exists    func(pid int32) error // ESRCH: no such process
	pidfs     bool                  // a pidfd's inode names its process (Linux 6.9)

	bootID           string
	pidNamespace     uint64
	initialNamespace bool
}

// NewKernel asks the kernel what it can do. What it cannot makes less known
// about peers, and is no error.
func NewKernel() *Kernel {
	k := &Kernel{
		peerPidfd: peerPidfd,
		pidfdOpen: func(pid int) (int, error) { return unix.PidfdOpen(pid, 0) },
		stat:      func(pid int32) ([]byte, error) { return os.ReadFile(procPath(pid, "stat")) },
		exists:    func(pid int32) error { return unix.Kill(int(pid), 0) },
		bootID:    BootID(),
	}
	k.probe()
	return k
}

func (k *Kernel) probe() {
	if !hasPeerPidfd() {
		k.peerPidfd = nil
	}
	if fd, err := k.pidfdOpen(os.Getpid()); err != nil {
		k.pidfdOpen = nil
	} else {
		k.pidfs = onPidfs(fd)
		_ = unix.Close(fd)
	}
	// A /proc of another PID namespace speaks of other processes by our numbers.
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		k.stat = func(int32) ([]byte, error) { return nil, os.ErrNotExist }
		return
	}
	k.pidNamespace = inode("/proc/self/ns/pid")
	k.initialNamespace = k.pidNamespace == initialPIDNamespace && inTimeNamespace(initialTimeNamespace)
}

// LogValue says what peers can be known by.
func (k *Kernel) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Bool("peer_pidfd", k.peerPidfd != nil),
		slog.Bool("pidfd", k.pidfdOpen != nil),
		slog.Bool("pidfs", k.pidfs),
		slog.Bool("initial_namespace", k.initialNamespace),
	)
}

// BootID names this boot of this host, alike in all its containers; empty where
// the kernel does not tell.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Recorded is what is left of a process when it was written down, for an agent
// that starts later.
type Recorded struct {
	// PID is the process's number as the recording agent saw it; 0: not visible.
	PID int32
	// StartTicks is when it started, in clock ticks since boot; 0: unknown.
	StartTicks uint64
	BootID     string
	// PIDNamespace is the inode of the namespace whose numbers PID is one of:
	// the recording agent's, which need not be the process's own.
	PIDNamespace uint64
	// InitialNamespace: that was the host's initial PID namespace, and
	// StartTicks are of its initial time namespace.
	InitialNamespace bool
	// PidfdInode is the process's inode on pidfs, the same in every PID namespace
	// and no other process's until the next boot; 0: unknown (before Linux 6.9).
	PidfdInode uint64
}

// Gone reports that a process that was recorded earlier on this host surely is
// no more: the boot is the same, the recording agent and this one are in the
// host's initial namespaces, and under its number there is now no process, one
// that has exited, or one with another start time or inode. All else is no
// proof, and false. It may be asked again at any time; once true it stays true.
func (k *Kernel) Gone(r Recorded) bool {
	if r.PID <= 0 || r.BootID == "" || r.BootID != k.bootID {
		return false
	}
	comparable := k.initialNamespace && r.InitialNamespace && r.PIDNamespace == k.pidNamespace
	if !comparable && !mutant.On("uds-gone-namespace") {
		return false
	}
	// Not by /proc: it can hide processes of others (hidepid).
	if errors.Is(k.exists(r.PID), unix.ESRCH) {
		return true
	}
	return k.startedOther(r) || k.isOtherOrExited(r)
}

// startedOther reports that the number's process started at another time.
func (k *Kernel) startedOther(r Recorded) bool {
	ticks, err := k.readStart(r.PID)
	return err == nil && ticks != 0 && r.StartTicks != 0 && ticks != r.StartTicks
}

// isOtherOrExited asks a pidfd of the number, which holds whichever process it
// means meanwhile: if that has exited, so has the recorded one, or it did before.
// The state that /proc tells would not show it: it is a zombie's when only the
// main thread ended.
func (k *Kernel) isOtherOrExited(r Recorded) bool {
	if k.pidfdOpen == nil {
		return false
	}
	fd, err := k.pidfdOpen(int(r.PID))
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	if exited(fd) {
		return true
	}
	return k.pidfs && r.PidfdInode != 0 && inodeOf(fd) != 0 && inodeOf(fd) != r.PidfdInode
}

// peerPidfd opens a descriptor for the process that connected. Unlike
// pidfd_open it cannot mean a later process with the same number.
func peerPidfd(socket int) (int, error) {
	return unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
}

func hasPeerPidfd() bool {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _, _ = unix.Close(pair[0]), unix.Close(pair[1]) }()
	fd, err := peerPidfd(pair[0])
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}

// onPidfs reports that a pidfd's inode is its process's own, never used again
// until the next boot. Before Linux 6.9 all pidfds shared one inode.
func onPidfs(pidfd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(pidfd, &fs) == nil && fs.Type == unix.PID_FS_MAGIC
}

// exited reports whether the process of a pidfd has exited, every thread of it,
// reaped or not.
func exited(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n > 0
		}
	}
}

// inode is 0 for what cannot be looked at.
func inode(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

// inTimeNamespace reports whether this process's start times are told in that
// time namespace; a kernel without them (before Linux 5.6) has one only.
func inTimeNamespace(wanted uint64) bool {
	found := inode("/proc/self/ns/time")
	return found == 0 || found == wanted
}

func procPath(pid int32, file string) string {
	return "/proc/" + strconv.Itoa(int(pid)) + "/" + file
}

// asUnixConn says why a connection's peer cannot be known.
func asUnixConn(c net.Conn) (*net.UnixConn, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errNotUnix
	}
	return u, nil
}
