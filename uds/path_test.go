package uds

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func mustListen(t testing.TB, c Config) *Server {
	t.Helper()
	s, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// leaveStale makes the socket file of a program that died.
func leaveStale(t testing.TB, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
}

func mustConnect(t testing.TB, path string) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

func entries(t testing.TB, dir string) string {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range found {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestListenReplacesWhatIsStale(t *testing.T) {
	table := []struct {
		name  string
		stale []string
	}{
		{"nothing there", nil},
		{"a stale socket", []string{"s"}},
		{"what a crash left half made", []string{"s.new"}},
		{"both", []string{"s", "s.new"}},
	}
	for _, row := range table {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range row.stale {
				leaveStale(t, filepath.Join(dir, name))
			}
			s := mustListen(t, Config{Path: filepath.Join(dir, "s")})
			mustConnect(t, s.Addr())
			if got := entries(t, dir); got != "s s.lock" {
				t.Errorf("the directory has %s", got)
			}
			_ = s.Close()
			if got := entries(t, dir); got != "s.lock" {
				t.Errorf("after Close the directory has %s", got)
			}
			mustListen(t, Config{Path: filepath.Join(dir, "s")})
		})
	}
}

func TestListenRefuses(t *testing.T) {
	table := []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    error
	}{
		{"a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrNotSocket},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, ErrNotSocket},
		{"a symbolic link to a stale socket", func(t *testing.T, path string) {
			leaveStale(t, path+"x")
			if err := os.Symlink(path+"x", path); err != nil {
				t.Fatal(err)
			}
		}, ErrNotSocket},
		{"a symbolic link to nothing", func(t *testing.T, path string) {
			if err := os.Symlink(path+"x", path); err != nil {
				t.Fatal(err)
			}
		}, ErrNotSocket},
		{"a file where the new socket is made", func(t *testing.T, path string) {
			if err := os.WriteFile(path+".new", []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrNotSocket},
		{"a link for a lock", func(t *testing.T, path string) {
			if err := os.Symlink(path+"x", path+".lock"); err != nil {
				t.Fatal(err)
			}
		}, unix.ELOOP},
		{"another agent", func(t *testing.T, path string) {
			mustListen(t, Config{Path: path})
		}, ErrInUse},
		{"another agent whose lock file was removed", func(t *testing.T, path string) {
			mustListen(t, Config{Path: path})
			if err := os.Remove(path + ".lock"); err != nil {
				t.Fatal(err)
			}
		}, ErrInUse},
		{"an agent that is starting", func(t *testing.T, path string) {
			f, err := lock(path + ".lock")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
		}, ErrInUse},
		{"a program that locks nothing", func(t *testing.T, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}, ErrInUse},
		{"a program that speaks in datagrams", func(t *testing.T, path string) {
			l, err := net.ListenPacket("unixgram", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}, ErrInUse},
		{"no directory", func(t *testing.T, path string) {
			if err := os.Remove(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrNotExist},
	}
	for _, row := range table {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d", "s")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			row.prepare(t, path)
			before, beforeErr := os.Lstat(path)
			_, err := Listen(Config{Path: path})
			if !errors.Is(err, row.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error %v, want one that names the path and is %v", err, row.want)
			}
			t.Log(err)
			after, afterErr := os.Lstat(path)
			if (beforeErr == nil) != (afterErr == nil) || beforeErr == nil && !os.SameFile(before, after) {
				t.Errorf("was %v (%v), is %v (%v)", before, beforeErr, after, afterErr)
			}
		})
	}
}

func TestPathLength(t *testing.T) {
	dir := t.TempDir()
	longest := filepath.Join(dir, strings.Repeat("x", pathBytesMax-len(dir)-1))
	s := mustListen(t, Config{Path: longest})
	mustConnect(t, longest)
	_ = s.Close()
	leaveStale(t, longest)
	mustListen(t, Config{Path: longest})

	_, err := Listen(Config{Path: longest + "x"})
	if !errors.Is(err, ErrPathTooLong) || !strings.Contains(err.Error(), longest+"x") || !strings.Contains(err.Error(), "108") {
		t.Error(err)
	}
	t.Chdir(dir)
	if got := mustListen(t, Config{Path: "s"}).Addr(); got != filepath.Join(dir, "s") {
		t.Errorf("a relative path becomes %s", got)
	}
}

func TestModeAndGroup(t *testing.T) {
	group := os.Getgid()
	if os.Getuid() == 0 {
		group = 4242 // anybody's, and nobody's
	}
	for _, umask := range []int{0, 0o777} {
		t.Run("umask "+strconv.FormatInt(int64(umask), 8), func(t *testing.T) {
			dir := t.TempDir()
			old := unix.Umask(umask)
			defer unix.Umask(old)
			l, err := bind(filepath.Join(dir, "b"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if mode := mustStat(t, filepath.Join(dir, "b")).Mode & 0o777; mode&^0o600 != 0 {
				t.Errorf("before it has its owner and mode, the socket is %o", mode)
			}
			// The lock needs no more than to be opened.
			s := mustListen(t, Config{Path: filepath.Join(dir, "s"), Group: strconv.Itoa(group)})
			if st := mustStat(t, s.Addr()); st.Mode&0o777 != 0o660 || int(st.Gid) != group {
				t.Errorf("mode %o, group %d", st.Mode&0o777, st.Gid)
			}
			admin := mustListen(t, Config{Path: filepath.Join(dir, "a"), Mode: 0o600})
			if st := mustStat(t, admin.Addr()); st.Mode&0o777 != 0o600 {
				t.Errorf("mode %o", st.Mode&0o777)
			}
		})
	}
	if _, err := Listen(Config{Path: filepath.Join(t.TempDir(), "s"), Group: "no such group"}); err == nil ||
		!strings.Contains(err.Error(), `"no such group"`) {
		t.Error(err)
	}
	if gid, err := groupID("root"); err != nil || gid != 0 {
		t.Errorf("group root is %d, %v", gid, err)
	}
}

func mustStat(t testing.TB, path string) *syscall.Stat_t {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t)
}

func TestEndRemovesOnlyItsOwnFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s, stop := start(t, Config{Path: path})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	stop()
	mustConnect(t, path)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	mustConnect(t, path)
}

func TestHandedInListenerKeepsItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	s, stop := start(t, Config{Listener: l})
	mustConnect(t, s.Addr())
	stop()
	if mustStat(t, path) == nil {
		t.Error("its file is gone")
	}
}

func TestValidate(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	table := []struct {
		name   string
		config Config
		want   []string
	}{
		{"nothing", Config{}, []string{"either a path or a listener"}},
		{"both", Config{Path: "s", Listener: tcp}, []string{"either a path or a listener", "not a connection of a Unix socket"}},
		{"bounds", Config{Path: "s", Silent: -1, StopTimeout: -1, Mode: fs.ModeSetuid}, []string{"bound", "timeout", "permissions"}},
	}
	for _, row := range table {
		t.Run(row.name, func(t *testing.T) {
			_, err := Listen(row.config)
			for _, want := range row.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want it to tell of %q", err, want)
				}
			}
		})
	}
}
