package fakeagent

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// caller is a process at the far end of a connection.
type caller struct {
	credentials.CommonAuthInfo
	pid int
}

func (caller) AuthType() string { return "pid" }

// peers takes the callers' process ids from the kernel.
type peers struct {
	credentials.TransportCredentials
}

func (peers) Info() credentials.ProtocolInfo          { return insecure.NewCredentials().Info() }
func (peers) Clone() credentials.TransportCredentials { return peers{} }
func (peers) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var cred *unix.Ucred
	outer := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(outer, err); err != nil {
		return nil, nil, err
	}
	return c, caller{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, int(cred.Pid)}, nil
}

func callerOf(ctx context.Context) caller {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return caller{}
	}
	who, _ := p.AuthInfo.(caller)
	return who
}

// watch makes the caller one of the session's, and ends the session when the
// last of them has exited. The mutex is held.
func (a *Agent) watch(s *session, who caller) {
	fd, err := unix.PidfdOpen(who.pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return // gone already
	}
	s.living = append(s.living, who.pid)
	process := os.NewFile(uintptr(fd), "process")
	a.watched = append(a.watched, process)
	a.serves.Go(func() {
		raw, err := process.SyscallConn()
		if err != nil {
			return // closed
		}
		// A pidfd can be read when its process has exited.
		if raw.Read(func(fd uintptr) bool {
			n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0
		}) == nil {
			a.exit(s, who.pid)
		}
	})
}

func (a *Agent) exit(s *session, pid int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.living = slices.DeleteFunc(s.living, func(p int) bool { return p == pid })
	if len(s.living) == 0 {
		a.end(s, raftlockv1.Reason_REASON_SESSION_ENDED)
	}
}
