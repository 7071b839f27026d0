package uds

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// door accepts connections for tests that need peers and no server.
type door struct {
	*net.UnixListener
	t        testing.TB
	path     string
	kernel   *Kernel
	watching *exits
}

func newDoor(t testing.TB, k *Kernel) *door {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	watching, err := newExits()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- watching.run() }()
	t.Cleanup(func() {
		_ = listener.Close()
		watching.close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &door{listener.(*net.UnixListener), t, path, k, watching}
}

func (d *door) accept() (*Peer, net.Conn, error) {
	d.t.Helper()
	_ = d.SetDeadline(time.Now().Add(patience))
	conn, err := d.AcceptUnix()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	p, err := d.kernel.peerOf(conn, d.watching)
	return p, conn, err
}

func (d *door) mustAccept() (*Peer, net.Conn) {
	d.t.Helper()
	p, conn, err := d.accept()
	if err != nil {
		d.t.Fatal(err)
	}
	return p, conn
}

// dialSelf connects from this process.
func (d *door) dialSelf() *Peer {
	d.t.Helper()
	conn, err := net.Dial("unix", d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	p, _ := d.mustAccept()
	return p
}

func mustEnd(t testing.TB, gone <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-gone:
	case <-time.After(patience):
		t.Fatalf("%s: not seen", what)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// kernels are hosts of several ages. Each can do no more than the one before.
var kernels = []struct {
	name            string
	age             func(*Kernel)
	same, watchable bool
}{
	{"this host's", func(*Kernel) {}, true, true},
	{"before 6.9: no pidfs", func(k *Kernel) { k.pidfs = false }, true, true},
	{"before 6.5: no SO_PEERPIDFD", func(k *Kernel) { k.pidfs, k.peerPidfd = false, nil }, true, true},
	{"before 5.3: no pidfd", func(k *Kernel) { k.pidfs, k.peerPidfd, k.pidfdOpen = false, nil, nil }, true, false},
	{"no pidfd, no /proc", func(k *Kernel) {
		k.pidfs, k.peerPidfd, k.pidfdOpen = false, nil, nil
		k.stat = func(int32) ([]byte, error) { return nil, os.ErrNotExist }
	}, false, false},
	{"pidfd_open forbidden", func(k *Kernel) {
		k.pidfs, k.peerPidfd = false, nil
		k.pidfdOpen = func(int) (int, error) { return -1, unix.EPERM }
	}, true, false},
	{"/proc hides others, no SO_PEERPIDFD", func(k *Kernel) {
		k.pidfs, k.peerPidfd = false, nil
		k.stat = func(int32) ([]byte, error) { return nil, os.ErrNotExist }
	}, false, false},
}

func TestPeer(t *testing.T) {
	for _, kernel := range kernels {
		t.Run(kernel.name, func(t *testing.T) {
			k := NewKernel()
			kernel.age(k)
			d := newDoor(t, k)
			one := startChild(t, "twice", d.path)
			p, _ := d.mustAccept()
			q, _ := d.mustAccept()
			startChild(t, "connect", d.path)
			other, _ := d.mustAccept()

			if int(p.UID) != os.Getuid() || int(p.GID) != os.Getgid() || int(p.PID) != one.Process.Pid {
				t.Errorf("credentials: %+v", p)
			}
			if p.Same(q) != kernel.same {
				t.Errorf("two connections of one process are the same: %v", p.Same(q))
			}
			if p.Same(other) || other.Same(p) || p.Same(d.dialSelf()) {
				t.Error("another process is the same")
			}
			if watchable := p.exit != nil; watchable != kernel.watchable {
				t.Errorf("watchable: %v", watchable)
			}
			gone, stop := p.Watch()
			defer stop()
			if (gone != nil) != kernel.watchable || isClosed(gone) {
				t.Fatal("a watch of a living process")
			}
			one.kill() // and not reaped: a zombie has exited
			if kernel.watchable {
				mustEnd(t, gone, "the exit")
			}
		})
	}
}

// A process's exit must be seen whoever else keeps its connection open.
func TestExitWhileAForkHoldsTheConnection(t *testing.T) {
	for _, kernel := range kernels[:3] {
		t.Run(kernel.name, func(t *testing.T) {
			k := NewKernel()
			kernel.age(k)
			d := newDoor(t, k)
			parent := startChild(t, "fork", d.path)
			p, conn := d.mustAccept()
			grandchild, _ := d.mustAccept()
			if p.Same(grandchild) {
				t.Error("a forked child is the same process")
			}
			gone, stop := p.Watch()
			defer stop()
			grandchildGone, stop := grandchild.Watch()
			defer stop()

			killed := time.Now()
			parent.kill()
			mustEnd(t, gone, "the exit")
			took := time.Since(killed)
			if isClosed(grandchildGone) {
				t.Error("the grandchild exited as well")
			}
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection is not open any more: %v", err)
			}
			t.Logf("seen %v after SIGKILL", took)
		})
	}
}

func TestExitIsSeenSoon(t *testing.T) {
	d := newDoor(t, NewKernel())
	took := make([]time.Duration, 0, 50)
	for range cap(took) {
		c := startChild(t, "connect", d.path)
		p, _ := d.mustAccept()
		gone, stop := p.Watch()
		killed := time.Now()
		c.kill()
		mustEnd(t, gone, "the exit")
		took = append(took, time.Since(killed))
		stop()
	}
	slices.Sort(took)
	t.Logf("from SIGKILL to the channel: median %v, worst %v", took[len(took)/2], took[len(took)-1])
	if median := took[len(took)/2]; median > 100*time.Millisecond {
		t.Errorf("median %v", median)
	}
}

func TestPeerInANamespaceOfItsOwn(t *testing.T) {
	d := newDoor(t, NewKernel())
	c, ok := startInNamespace(t, "connect", d.path)
	if !ok {
		return
	}
	p, _ := d.mustAccept()
	if int(p.PID) != c.Process.Pid || p.StartTicks == 0 {
		t.Errorf("want the number that this process sees, have %+v", p)
	}
	gone, stop := p.Watch()
	defer stop()
	c.kill()
	mustEnd(t, gone, "the exit")
}

// An agent in a namespace of its own sees no number, and must not take its own
// process of some number, or what its /proc says, for the peer.
func TestPeerOutsideTheAgentsNamespace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	a, ok := startInNamespace(t, "agent", path)
	if !ok {
		return
	}
	a.says("listening")
	c := startChild(t, "twice", path)
	var got seen
	if err := a.output.Decode(&got); err != nil {
		t.Fatal(err)
	}
	k := NewKernel()
	if want := (seen{Watchable: k.peerPidfd != nil, Same: k.pidfs}); got != want {
		t.Errorf("the agent sees %+v, want %+v", got, want)
	}
	if !got.Watchable {
		return
	}
	c.kill()
	// The decoder took the line's end already, or may have taken more.
	rest, err := io.ReadAll(io.MultiReader(a.output.Buffered(), a.lines))
	if err != nil || !slices.Contains([]string{"\nexited\n", "exited\n"}, string(rest)) {
		t.Errorf("after the exit the agent says %q (%v)", rest, err)
	}
}

// startInNamespace gives the child a PID namespace. Who is not root gets it with
// a user namespace; where that is forbidden too, the test says so and is false.
func startInNamespace(t *testing.T, name, path string) (*child, bool) {
	t.Helper()
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	trial := exec.Command(os.Args[0], "-test.run=^$")
	trial.SysProcAttr = attr
	if err := trial.Run(); errors.Is(err, os.ErrPermission) {
		t.Logf("NARROWED: no PID namespace may be made here (%v), so nothing was looked at", err)
		return nil, false
	}
	return startChild(t, name, path, func(c *exec.Cmd) { c.SysProcAttr = attr }), true
}

// A process that died while its connection waited to be accepted.
func TestGoneBeforeAccept(t *testing.T) {
	stat := func(ticks ...string) func(int32) ([]byte, error) {
		return func(int32) ([]byte, error) {
			next := ticks[0]
			if len(ticks) > 1 {
				ticks = ticks[1:]
			}
			return []byte("1 (x) S 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 " + next), nil
		}
	}
	table := []struct {
		name string
		age  func(*Kernel)
	}{
		{"this host's", func(*Kernel) {}},
		{"SO_PEERPIDFD before 6.15", func(k *Kernel) {
			k.peerPidfd = func(int) (int, error) { return -1, unix.EINVAL }
		}},
		{"SO_PEERPIDFD from 6.15 on", func(k *Kernel) {
			k.peerPidfd = func(int) (int, error) { return -1, unix.ESRCH }
		}},
		{"no SO_PEERPIDFD", func(k *Kernel) { k.peerPidfd = nil }},
		{"no SO_PEERPIDFD, number a thread's", func(k *Kernel) {
			k.peerPidfd = nil
			k.pidfdOpen = func(int) (int, error) { return -1, unix.ENOENT }
		}},
		{"no SO_PEERPIDFD, number passed on meanwhile", func(k *Kernel) {
			k.peerPidfd = nil
			k.pidfdOpen = func(int) (int, error) { return unix.PidfdOpen(os.Getpid(), 0) }
			k.stat = stat("41", "42")
		}},
	}
	for _, row := range table {
		t.Run(row.name, func(t *testing.T) {
			k := NewKernel()
			row.age(k)
			d := newDoor(t, k)
			c := startChild(t, "fork", d.path)
			c.says("connected")
			c.kill()
			_ = c.Wait()
			p, _ := d.mustAccept()
			gone, stop := p.Watch()
			defer stop()
			mustEnd(t, gone, "that it is gone")
			if p.StartTicks != 0 {
				t.Errorf("start time of nobody knows who: %+v", p)
			}
		})
	}
}

// Without a descriptor to spare, who connects is refused rather than served as
// one whose death nobody sees.
func TestPeerWithoutRoom(t *testing.T) {
	out := func(int) (int, error) { return -1, unix.EMFILE }
	table := []struct {
		name string
		age  func(*Kernel)
	}{
		{"SO_PEERPIDFD", func(k *Kernel) { k.peerPidfd = out }},
		{"pidfd_open", func(k *Kernel) { k.peerPidfd, k.pidfdOpen = nil, out }},
		{"/proc", func(k *Kernel) {
			k.stat = func(int32) ([]byte, error) { return nil, &os.PathError{Err: unix.EMFILE} }
		}},
		{"/proc without SO_PEERPIDFD", func(k *Kernel) {
			k.peerPidfd = nil
			k.stat = func(int32) ([]byte, error) { return nil, &os.PathError{Err: unix.ENFILE} }
		}},
	}
	for _, row := range table {
		t.Run(row.name, func(t *testing.T) {
			k := NewKernel()
			row.age(k)
			d := newDoor(t, k)
			startChild(t, "connect", d.path)
			if p, _, err := d.accept(); err == nil {
				t.Errorf("served: %+v", p)
			}
		})
	}
}

func TestWatch(t *testing.T) {
	d := newDoor(t, NewKernel())
	p := d.dialSelf()
	held := func() int {
		d.watching.mu.Lock()
		defer d.watching.mu.Unlock()
		return len(d.watching.watched)
	}
	first, stopFirst := p.Watch()
	second, stopSecond := p.Watch()
	if first == nil || first != second {
		t.Fatal("two watches of one peer are two channels")
	}
	p.release() // the connection's
	stopFirst()
	stopFirst()
	if held() != 1 {
		t.Error("a stop, said twice, ended the other watch")
	}
	third, stopThird := p.Watch()
	if third != first {
		t.Error("a watched peer is not watchable after its connection")
	}
	stopSecond()
	stopThird()
	if held() != 0 {
		t.Error("a descriptor is kept that nobody watches")
	}
	if late, stop := p.Watch(); late != nil {
		t.Error("a watch by a descriptor that was closed")
	} else {
		stop()
	}
}

func TestIdentity(t *testing.T) {
	if got := (&Peer{UID: 4294967294}).Identity(); got != "uid:4294967294" {
		t.Error(got)
	}
}

// An event that was under way for a process must not hit the next one that got
// its descriptor's number.
func TestLateEventHitsNobody(t *testing.T) {
	d := newDoor(t, NewKernel())
	p := d.dialSelf()
	old := p.exit.id
	p.release()
	q := d.dialSelf()
	d.watching.exited(old)
	if gone, stop := q.Watch(); isClosed(gone) {
		t.Error("a late event hit another process")
	} else {
		stop()
	}
	for _, id := range []uint64{1, 1 << 31, 1<<32 + 7, 1<<64 - 1} {
		if got := eventID(newEvent(id)); got != id {
			t.Errorf("number %d comes back as %d", id, got)
		}
	}
}

func TestSame(t *testing.T) {
	p := Peer{PID: 7, StartTicks: 100, PIDNamespace: 1, bootID: "b"}
	table := []struct {
		name         string
		one, another func(*Peer)
		want         bool
	}{
		{"number and start", nil, nil, true},
		{"another number", nil, func(p *Peer) { p.PID = 8 }, false},
		{"a number used again", nil, func(p *Peer) { p.StartTicks = 101 }, false},
		{"start unknown", func(p *Peer) { p.StartTicks = 0 }, func(p *Peer) { p.StartTicks = 0 }, false},
		{"number not visible", func(p *Peer) { p.PID = 0 }, func(p *Peer) { p.PID = 0 }, false},
		{"one pidfs inode, number not visible", func(p *Peer) { p.PID, p.inode = 0, 5 }, func(p *Peer) { p.PID, p.inode = 0, 5 }, true},
		{"two pidfs inodes, started in one tick", func(p *Peer) { p.inode = 5 }, func(p *Peer) { p.inode = 6 }, false},
		{"gone when accepted, so without an inode", func(p *Peer) { p.inode = 5 }, func(p *Peer) { p.StartTicks = 0 }, false},
	}
	for _, row := range table {
		t.Run(row.name, func(t *testing.T) {
			one, another := p, p
			if row.one != nil {
				row.one(&one)
			}
			if row.another != nil {
				row.another(&another)
			}
			if one.Same(&another) != row.want || another.Same(&one) != row.want {
				t.Errorf("want %v of %+v and %+v", row.want, one, another)
			}
		})
	}
	if p.Same(nil) || (*Peer)(nil).Same(&p) {
		t.Error("nobody is somebody")
	}
}

// A program that started inside the connecting process by exec is that process.
func TestSameAfterExec(t *testing.T) {
	d := newDoor(t, NewKernel())
	c := startChild(t, "exec", d.path)
	before, _ := d.mustAccept()
	gone, stop := before.Watch()
	defer stop()
	after, _ := d.mustAccept()
	if !before.Same(after) || isClosed(gone) {
		t.Errorf("%+v is another than %+v", before, after)
	}
	c.kill()
	mustEnd(t, gone, "the exit")
}

// BenchmarkPeer is what the kernel's knowledge of a peer costs at accept.
func BenchmarkPeer(b *testing.B) {
	d := newDoor(b, NewKernel())
	conn, err := net.Dial("unix", d.path)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	accepted, err := d.AcceptUnix()
	if err != nil {
		b.Fatal(err)
	}
	defer accepted.Close()
	for b.Loop() {
		p, err := d.kernel.peerOf(accepted, d.watching)
		if err != nil {
			b.Fatal(err)
		}
		p.release()
	}
}
