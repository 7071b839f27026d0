package daemon

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listening is the descriptor of a new listener, with a name.
func listening(t *testing.T, network, name string) *os.File {
	t.Helper()
	at := "127.0.0.1:0"
	if network != "tcp" {
		at = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	_ = l.Close()
	if err != nil {
		t.Fatal(err)
	}
	return named(t, f, name)
}

// named is f's descriptor, copied, under the name that activation.Files would
// give it.
func named(t *testing.T, f *os.File, name string) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	g := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { _ = g.Close() })
	return g
}

func TestHandedInSockets(t *testing.T) {
	for _, c := range []struct {
		name       string
		files      func(*testing.T) []*os.File
		app, admin bool
		wrong      string
	}{
		{"none", func(*testing.T) []*os.File { return nil }, false, false, ""},
		{"both", func(t *testing.T) []*os.File {
			return []*os.File{listening(t, "unix", "admin"), listening(t, "unix", "app")}
		}, true, true, ""},
		{"one", func(t *testing.T) []*os.File { return []*os.File{listening(t, "unix", "app")} }, true, false, ""},
		{"one without a name", func(t *testing.T) []*os.File { return []*os.File{listening(t, "unix", "LISTEN_FD_3")} }, true, false, ""},
		{"two without names", func(t *testing.T) []*os.File {
			return []*os.File{listening(t, "unix", "LISTEN_FD_3"), listening(t, "unix", "LISTEN_FD_4")}
		}, false, false, "FileDescriptorName"},
		{"a name that says nothing", func(t *testing.T) []*os.File { return []*os.File{listening(t, "unix", "raftlock.socket")} }, false, false, "FileDescriptorName"},
		{"one twice", func(t *testing.T) []*os.File {
			return []*os.File{listening(t, "unix", "app"), listening(t, "unix", "app")}
		}, false, false, "two"},
		{"a TCP port", func(t *testing.T) []*os.File { return []*os.File{listening(t, "tcp", "app")} }, false, false, "path"},
		{"no socket", func(t *testing.T) []*os.File {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			return []*os.File{named(t, f, "app")}
		}, false, false, "ListenStream"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o Options
			err := o.activate(c.files(t))
			defer o.closeActivated()
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("%v does not say %s", err, c.wrong)
				}
				return
			}
			if err != nil || (o.AppListener != nil) != c.app || (o.AdminListener != nil) != c.admin {
				t.Errorf("%v, %v, %v", o.AppListener, o.AdminListener, err)
			}
		})
	}
}

// A number is not believed before it is looked at: each would be a file.
func TestManyHandedInAreRefused(t *testing.T) {
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("LISTEN_FDNAMES", "app")
	t.Setenv("LISTEN_FDS", strconv.Itoa(handedInMax+1))
	var o Options
	// None was made, so none of this process's own files was closed.
	if err := o.FromSystemd(); !errors.Is(err, ErrActivation) || !strings.Contains(err.Error(), "LISTEN_FDS") {
		t.Errorf("FromSystemd: %v", err)
	}
}

// manager is the other end of NOTIFY_SOCKET.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	said []string
}

func manage(t *testing.T, watchdog time.Duration) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	return &manager{t: t, conn: conn}
}

// await reads until it is told that.
func (m *manager) await(state string) {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		m.t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	for {
		n, err := m.conn.Read(buffer)
		if err != nil {
			m.t.Fatalf("not told %s, but %q: %v", state, m.said, err)
		}
		m.said = append(m.said, string(buffer[:n]))
		if string(buffer[:n]) == state {
			return
		}
	}
}

func TestServiceManagerIsTold(t *testing.T) {
	m := manage(t, 300*time.Millisecond)
	o := alone(t)
	if err := o.FromSystemd(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		if value, ok := os.LookupEnv(name); ok {
			t.Errorf("a child would inherit %s=%s", name, value)
		}
	}
	stop := start(t, o)
	m.await("READY=1")
	m.await("STATUS=leader, 0 sessions")
	m.await("WATCHDOG=1")
	m.await("WATCHDOG=1")
	stop()
	m.await("STOPPING=1")
}

// A variable that cannot be used is no reason to go on without a watchdog.
func TestBadNotificationIsRefused(t *testing.T) {
	for name, value := range map[string]string{"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "soon"} {
		t.Run(name, func(t *testing.T) {
			manage(t, time.Second)
			t.Setenv(name, value)
			var o Options
			if err := o.FromSystemd(); !errors.Is(err, ErrNotify) {
				t.Errorf("FromSystemd: %v", err)
			}
		})
	}
}

// A socket that was handed in is served, in place of the path, and stays.
func TestHandedInSocketIsServed(t *testing.T) {
	o := alone(t)
	f := listening(t, "unix", "app")
	if err := o.activate([]*os.File{f}); err != nil {
		t.Fatal(err)
	}
	path := o.AppListener.Addr().String()
	stop := start(t, o)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if _, err := os.Stat(o.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("--socket was made as well: %v", err)
	}
	stop()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
}

// Open takes the listeners over, also when it fails.
func TestOpenClosesWhatWasHandedIn(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"invalid":          func(o *Options) { o.Expect = 2 },
		"a missing folder": func(o *Options) { o.AdminSocket = filepath.Join(o.DataDir, "none", "s") },
	} {
		t.Run(name, func(t *testing.T) {
			o := alone(t)
			if err := o.activate([]*os.File{listening(t, "unix", "app")}); err != nil {
				t.Fatal(err)
			}
			change(&o)
			if _, err := Open(o); err == nil {
				t.Fatal("it opened")
			}
			if _, err := o.AppListener.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("still open: %v", err)
			}
		})
	}
}
