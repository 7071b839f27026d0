package uds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/raftlock/raftlock/internal/mutant"
)

var errNotUnix = errors.New("not a connection of a Unix socket")

// Peer is the process at the far end of a connection: the one that called
// connect, as the kernel told it when the connection was accepted. Its exported
// fields are not to be changed.
type Peer struct {
	// UID and GID are the effective ones at connect, 65534 for one that does not
	// exist in this agent's user namespace.
	UID, GID uint32
	// PID is its number as this agent sees it; 0: not visible from here.
	PID int32
	// StartTicks is when it started, in clock ticks since boot; 0: unknown.
	StartTicks uint64
	// PIDNamespace is the inode of the namespace whose numbers PID is one of:
	// this agent's. InitialNamespace: see [Recorded].
	PIDNamespace     uint64
	InitialNamespace bool

	bootID string
	inode  uint64 // see Recorded.PidfdInode
	// exit is nil if it cannot be seen.
	exit *exit
}

// Identity names the peer's user, for bounds and policy: "uid:1000".
func (p *Peer) Identity() string { return "uid:" + strconv.FormatUint(uint64(p.UID), 10) }

// Recorded is what to write down about the peer, for [Kernel.Gone] later.
func (p *Peer) Recorded() Recorded {
	return Recorded{
		PID:              p.PID,
		StartTicks:       p.StartTicks,
		BootID:           p.bootID,
		PIDNamespace:     p.PIDNamespace,
		InitialNamespace: p.InitialNamespace,
		PidfdInode:       p.inode,
	}
}

// Same reports that both surely are one process, such as on two connections of
// it. A forked child is another process, a program started by exec the same.
func (p *Peer) Same(q *Peer) bool {
	if p == nil || q == nil {
		return false
	}
	if p.inode != 0 && q.inode != 0 {
		return p.inode == q.inode
	}
	if mutant.On("uds-same-start") {
		return p.PID != 0 && p.PID == q.PID
	}
	return p.PID != 0 && p.StartTicks != 0 &&
		p.PID == q.PID && p.StartTicks == q.StartTicks &&
		p.PIDNamespace == q.PIDNamespace && p.bootID == q.bootID
}

// Watch returns a channel that is closed when the process is gone, every thread
// of it, reaped or not; closed already if it was gone when it was accepted. It
// is nil if that cannot be seen on this host: then the end of the connection is
// all there is.
//
// The watch outlives the connection and costs a descriptor until stop, or until
// the Run that accepted the connection returns; after that an open channel stays
// open. stop may be called again, and from any goroutine. Every Watch of a peer
// returns the same channel. It is to be called while a call of the connection is
// being served: later there may be nothing left to watch by, and nil comes back.
func (p *Peer) Watch() (exited <-chan struct{}, stop func()) {
	if p.exit == nil || !p.exit.hold() {
		return nil, func() {}
	}
	return p.exit.gone, sync.OnceFunc(p.exit.release)
}

// hold keeps the process watched while one call is served. It fails after the
// connection ended.
func (p *Peer) hold() bool { return p.exit == nil || p.exit.hold() }

// release ends what hold, or the connection, kept.
func (p *Peer) release() {
	if p.exit != nil {
		p.exit.release()
	}
}

type peerKey struct{}

// PeerFrom finds whose call ctx belongs to, of gRPC and of HTTP. It is false
// for calls that came by no Server of this package.
func PeerFrom(ctx context.Context) (*Peer, bool) {
	if p, ok := ctx.Value(peerKey{}).(*Peer); ok {
		return p, true
	}
	if c, ok := connFrom(ctx); ok {
		return c.peer, true
	}
	return nil, false
}

// peerOf asks who connected. Its exit is watched by e and held once. An error
// means that this could not be found out now, as without a descriptor to spare:
// to serve such a peer would promise it less than the next one gets.
func (k *Kernel) peerOf(c *net.UnixConn, e *exits) (*Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("ask who connected: %w", err)
	}
	var p *Peer
	outer := raw.Control(func(fd uintptr) { p, err = k.peerOfSocket(int(fd), e) })
	if err = errors.Join(outer, err); err != nil {
		return nil, fmt.Errorf("ask who connected: %w", err)
	}
	return p, nil
}

func (k *Kernel) peerOfSocket(socket int, e *exits) (*Peer, error) {
	cred, err := unix.GetsockoptUcred(socket, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, err
	}
	p := &Peer{
		UID: cred.Uid, GID: cred.Gid, PID: cred.Pid,
		PIDNamespace: k.pidNamespace, InitialNamespace: k.initialNamespace,
		bootID: k.bootID,
	}
	pidfd, err := k.openPeer(socket, p)
	switch {
	case errors.Is(err, errGone):
		p.exit = e.gone()
		return p, nil
	case errors.Is(err, errUnwatched):
		p.StartTicks, err = k.readStart(p.PID)
		return p, err
	case err != nil:
		return nil, err
	}
	if k.pidfs {
		p.inode = inodeOf(pidfd)
	}
	// In this order: while the pidfd says that the process lives, its number
	// cannot have gone to another.
	ticks, err := k.readStart(p.PID)
	if err != nil {
		_ = unix.Close(pidfd)
		return nil, err
	}
	if !exited(pidfd) {
		p.StartTicks = ticks
	}
	p.exit, err = e.watch(pidfd)
	return p, err
}

var (
	errGone      = errors.New("the process is gone")
	errUnwatched = errors.New("the process cannot be watched")
)

// openPeer opens a pidfd of the process that connected, errGone if that is no
// more, errUnwatched if this host cannot.
func (k *Kernel) openPeer(socket int, p *Peer) (int, error) {
	if k.peerPidfd != nil {
		fd, err := k.peerPidfd(socket)
		switch {
		case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL):
			// Reaped; until Linux 6.15 the kernel calls that invalid.
			return -1, errGone
		case errors.Is(err, unix.ENODATA):
			return -1, errUnwatched
		}
		return fd, err
	}
	if k.pidfdOpen == nil || p.PID == 0 {
		return -1, errUnwatched
	}
	return k.openNumber(p.PID)
}

// openNumber opens a pidfd by number. The number must not pass to another
// process meanwhile, so its start time is compared.
func (k *Kernel) openNumber(pid int32) (int, error) {
	before, err := k.readStart(pid)
	if err != nil {
		return -1, err
	}
	fd, err := k.pidfdOpen(int(pid))
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		// No such process, or the number is a mere thread's by now.
		return -1, errGone
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSYS):
		return -1, errUnwatched
	case err != nil:
		return -1, err
	}
	after, err := k.readStart(pid)
	switch {
	case err == nil && exited(fd):
		// Whichever process it is, the one that connected is gone as well.
	case err == nil && (before == 0 || after == 0):
		err = errUnwatched
	case err == nil && before != after && !mutant.On("uds-number-reused"):
		err = errGone
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// readStart is 0 where the start time is not told; an error says that there is
// no room to ask.
func (k *Kernel) readStart(pid int32) (uint64, error) {
	if pid == 0 {
		return 0, nil
	}
	line, err := k.stat(pid)
	if outOfRoom(err) {
		return 0, err
	}
	if err != nil {
		return 0, nil
	}
	ticks, err := parseStat(line)
	if err != nil {
		return 0, nil
	}
	return ticks, nil
}

func inodeOf(fd int) uint64 {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}
