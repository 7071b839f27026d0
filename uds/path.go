package uds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/raftlock/raftlock/internal/mutant"
)

// pathBytesMax is how long a name the kernel takes for a socket.
const pathBytesMax = 107

// Errors of Listen. None leaves anything behind but the lock file, and each may
// be tried again once its cause is mended.
var (
	// ErrInUse: another agent, or another program, listens on the path.
	ErrInUse = errors.New("in use by another process")
	// ErrPathTooLong: no client could name such a socket.
	ErrPathTooLong = errors.New("longer than the 107 bytes that a socket's path may have")
	// ErrNotSocket: something else has the path. A symbolic link counts as
	// something else: to replace it would break it, and to follow it would let
	// its owner choose what is replaced. (Links among the parents are followed.)
	ErrNotSocket = errors.New("exists and is not a socket; remove it or choose another path")
)

// claim is a path that this process serves.
type claim struct {
	path string
	lock *os.File
	// device and inode tell our socket file from one that took its place.
	device, inode uint64
}

// listenAt takes the path and returns a listener on it.
func listenAt(c Config) (_ *claim, _ *net.UnixListener, err error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, nil, fmt.Errorf("socket %q: %w", c.Path, err)
	}
	if len(path) > pathBytesMax {
		return nil, nil, fmt.Errorf("socket %q has %d bytes: %w", path, len(path), ErrPathTooLong)
	}
	gid := -1
	if c.Group != "" {
		if gid, err = groupID(c.Group); err != nil {
			return nil, nil, fmt.Errorf("socket %q: %w", path, err)
		}
	}
	k := &claim{path: path}
	if k.lock, err = lock(path + ".lock"); err != nil {
		return nil, nil, fmt.Errorf("socket %q: %w", path, err)
	}
	listener, err := k.listen(c.Mode, gid)
	if err != nil {
		k.unlock()
		return nil, nil, fmt.Errorf("socket %q: %w", path, err)
	}
	return k, listener, nil
}

// listen needs the lock. The socket gets owner and mode under another name, so
// that whoever finds it under its own is meant to.
func (k *claim) listen(mode os.FileMode, gid int) (_ *net.UnixListener, err error) {
	switch there, err := isSocket(k.path); {
	case err != nil:
		return nil, err
	case there:
		if err := unused(k.path); err != nil {
			return nil, err
		}
	}
	// A fixed name is enough under the lock; a leftover is a crash's.
	fresh := k.path + ".new"
	if _, err := isSocket(fresh); err != nil {
		return nil, fmt.Errorf("%q: %w", fresh, err)
	}
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := bind(fresh)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = listener.Close()
			_ = os.Remove(fresh)
		}
	}()
	if err := os.Chown(fresh, -1, gid); err != nil {
		return nil, fmt.Errorf("give it to group %d, which takes a member of it or root: %w", gid, err)
	}
	if err := os.Chmod(fresh, mode); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(fresh, &st); err != nil {
		return nil, err
	}
	k.device, k.inode = st.Dev, st.Ino
	return listener, os.Rename(fresh, k.path)
}

// bind listens at path, for nobody but this user yet, whatever the umask.
func bind(path string) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		// The file that bind makes gets at most the mode of the socket.
		outer := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(outer, err)
	}}
	name, done, err := bindable(path)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := config.Listen(context.Background(), "unix", name)
	if err != nil {
		return nil, err
	}
	listener := l.(*net.UnixListener)
	listener.SetUnlinkOnClose(false)
	return listener, nil
}

// bindable is a name for path that is short enough: the one it gets in the end
// is, but this one is longer.
func bindable(path string) (name string, done func(), err error) {
	if len(path) <= pathBytesMax {
		return path, func() {}, nil
	}
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", nil, err
	}
	name = "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(path)
	return name, func() { _ = dir.Close() }, nil
}

// isSocket reports whether there is a socket at path; an error if there is
// something else.
func isSocket(path string) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return false, ErrNotSocket
	}
	return true, nil
}

// unused reports whether nobody listens at path: the lock says that no agent
// does; this asks for everybody else.
func unused(path string) error {
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, fs.ErrNotExist), mutant.On("uds-dial"):
		return nil
	case err == nil:
		_ = conn.Close()
		return ErrInUse
	case errors.Is(err, fs.ErrPermission):
		return err
	}
	// Its queue is full, or it speaks in datagrams: somebody is there.
	return fmt.Errorf("%w (%w)", ErrInUse, err)
}

// lock takes the lock of a path for as long as the file is open. The file is
// kept: to remove it would let two agents lock two files of one name.
func lock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("its directory does not exist; create it or choose another path: %w", err)
		}
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != nil && !mutant.On("uds-lock") {
			_ = f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("%w, which has locked %s", ErrInUse, path)
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if isAt(f, path) {
			return f, nil
		}
		// Somebody removed the file before it was locked.
		_ = f.Close()
	}
}

// isAt reports whether the open file is the one that path names now.
func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	found, err := os.Lstat(path)
	return err == nil && os.SameFile(opened, found)
}

// remove takes the socket file away if it is still ours. Before unlock.
func (k *claim) remove() {
	var st unix.Stat_t
	if unix.Lstat(k.path, &st) != nil {
		return
	}
	if st.Dev == k.device && st.Ino == k.inode || mutant.On("uds-remove-own") {
		_ = os.Remove(k.path)
	}
}

func (k *claim) unlock() { _ = k.lock.Close() }

// groupID reads a group's name or number.
func groupID(group string) (int, error) {
	if n, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("group %q: %w", group, err)
	}
	return strconv.Atoi(g.Gid)
}
