package uds

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// exitsAtOnce bounds how many exits are taken from the kernel in one go.
const exitsAtOnce = 128

// exits hears of the exits of many processes on one goroutine, run's.
type exits struct {
	epoll *os.File
	raw   syscall.RawConn

	// mu guards the rest, and the fields of every exit.
	mu     sync.Mutex
	closed bool
	next   uint64
	// watched finds an exit by the number it was registered under. Numbers are
	// not used twice, as those of descriptors are: an event that was fetched
	// just before its exit was given up must not hit another process.
	watched map[uint64]*exit
}

// exit is the exit of one process, which closes gone. Its descriptor is open
// while somebody holds it and gone is open.
type exit struct {
	of    *exits
	gone  chan struct{}
	pidfd int
	id    uint64
	holds int
}

func newExits() (*exits, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch for exits: %w", err)
	}
	// Nonblocking, so that Go's poller waits for it instead of a thread.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch for exits: %w", err)
	}
	e := &exits{epoll: os.NewFile(uintptr(fd), "exits"), watched: make(map[uint64]*exit)}
	if e.raw, err = e.epoll.SyscallConn(); err != nil {
		_ = e.epoll.Close()
		return nil, fmt.Errorf("watch for exits: %w", err)
	}
	return e, nil
}

// run closes the channels of processes that exit, until close.
func (e *exits) run() error {
	events := make([]unix.EpollEvent, exitsAtOnce)
	var n int
	var failed error
	for {
		err := e.raw.Read(func(fd uintptr) bool {
			n, failed = unix.EpollWait(int(fd), events, 0)
			if errors.Is(failed, unix.EINTR) {
				n, failed = 0, nil
				return true
			}
			return n != 0 || failed != nil
		})
		if err = errors.Join(err, failed); err != nil {
			return e.failure(err)
		}
		for _, event := range events[:n] {
			e.exited(eventID(event))
		}
	}
}

// failure is nil for what close brought about.
func (e *exits) failure(err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	return fmt.Errorf("watch for exits: %w", err)
}

func (e *exits) exited(id uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x, ok := e.watched[id]; ok {
		e.drop(x)
		close(x.gone)
	}
}

// watch takes over pidfd, also when it fails. The exit is held once.
func (e *exits) watch(pidfd int) (*exit, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		_ = unix.Close(pidfd)
		return nil, os.ErrClosed
	}
	e.next++
	x := &exit{of: e, gone: make(chan struct{}), pidfd: pidfd, id: e.next, holds: 1}
	event := newEvent(x.id)
	if err := e.control(unix.EPOLL_CTL_ADD, pidfd, &event); err != nil {
		_ = unix.Close(pidfd)
		return nil, fmt.Errorf("watch a process: %w", err)
	}
	e.watched[x.id] = x
	return x, nil
}

func (e *exits) control(op, pidfd int, event *unix.EpollEvent) (err error) {
	outer := e.raw.Control(func(fd uintptr) { err = unix.EpollCtl(int(fd), op, pidfd, event) })
	return errors.Join(outer, err)
}

// drop needs mu. The descriptor may be in a child between fork and exec, which
// would keep it registered if it were only closed.
func (e *exits) drop(x *exit) {
	delete(e.watched, x.id)
	_ = e.control(unix.EPOLL_CTL_DEL, x.pidfd, nil)
	_ = unix.Close(x.pidfd)
	x.pidfd = -1
}

// close makes run return and closes all descriptors. Channels that are open now
// stay open.
func (e *exits) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.closed = true
	for _, x := range e.watched {
		e.drop(x)
	}
	_ = e.epoll.Close()
}

// gone is the exit of a process that was found to have exited already.
func (e *exits) gone() *exit {
	x := &exit{of: e, gone: make(chan struct{}), pidfd: -1, holds: 1}
	close(x.gone)
	return x
}

// hold keeps the exit watched until a release of the caller's. It fails when
// nobody held it any more.
func (x *exit) hold() bool {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	if x.holds == 0 && !x.over() {
		return false
	}
	x.holds++
	return true
}

func (x *exit) over() bool {
	select {
	case <-x.gone:
		return true
	default:
		return false
	}
}

func (x *exit) release() {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	x.holds--
	if x.holds == 0 && x.pidfd >= 0 {
		x.of.drop(x)
	}
}

// newEvent puts id where the kernel keeps 64 bits for its user.
func newEvent(id uint64) unix.EpollEvent {
	return unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
}

func eventID(e unix.EpollEvent) uint64 {
	return uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32
}
