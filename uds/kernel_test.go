package uds

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestGone(t *testing.T) {
	recorded := Recorded{PID: 7, StartTicks: 100, BootID: "b", PIDNamespace: 1, InitialNamespace: true}
	// The host: process 7 started at 100, and lives.
	host := Kernel{
		exists:       func(int32) error { return nil },
		stat:         func(int32) ([]byte, error) { return statLine(100), nil },
		bootID:       "b",
		pidNamespace: 1, initialNamespace: true,
	}
	noProcess := func(k *Kernel) { k.exists = func(int32) error { return unix.ESRCH } }
	table := []struct {
		name string
		host func(*Kernel)
		of   func(*Recorded)
		want bool
	}{
		{"it lives", nil, nil, false},
		{"no such process", noProcess, nil, true},
		{"no such process, start unknown", noProcess, func(r *Recorded) { r.StartTicks = 0 }, true},
		{"its number passed on", nil, func(r *Recorded) { r.StartTicks = 99 }, true},
		{"start unknown", nil, func(r *Recorded) { r.StartTicks = 0 }, false},
		{"start hidden", func(k *Kernel) {
			k.stat = func(int32) ([]byte, error) { return nil, os.ErrNotExist }
		}, nil, false},
		{"start unreadable", func(k *Kernel) {
			k.stat = func(int32) ([]byte, error) { return []byte("7 (x"), nil }
		}, nil, false},
		{"a process of another user", func(k *Kernel) {
			k.exists = func(int32) error { return unix.EPERM }
		}, nil, false},
		{"another inode", func(k *Kernel) { k.pidfs, k.pidfdOpen = true, openSelf }, func(r *Recorded) { r.PidfdInode = 1 }, true},
		{"the same inode", func(k *Kernel) { k.pidfs, k.pidfdOpen = true, openSelf }, func(r *Recorded) { r.PidfdInode = ownInode(t) }, false},
		{"another inode, without pidfs", func(k *Kernel) { k.pidfdOpen = openSelf }, func(r *Recorded) { r.PidfdInode = 1 }, false},
		{"no number", noProcess, func(r *Recorded) { r.PID = 0 }, false},
		{"another boot", noProcess, func(r *Recorded) { r.BootID = "c" }, false},
		{"no boot known", func(k *Kernel) { noProcess(k); k.bootID = "" }, func(r *Recorded) { r.BootID = "" }, false},
		{"recorded in a namespace", noProcess, func(r *Recorded) { r.InitialNamespace, r.PIDNamespace = false, 2 }, false},
		{"agent in a namespace", func(k *Kernel) { noProcess(k); k.initialNamespace, k.pidNamespace = false, 2 }, nil, false},
		{"both in one namespace that is not initial", func(k *Kernel) { noProcess(k); k.initialNamespace, k.pidNamespace = false, 2 },
			func(r *Recorded) { r.InitialNamespace, r.PIDNamespace = false, 2 }, false},
	}
	for _, row := range table {
		t.Run(row.name, func(t *testing.T) {
			k, r := host, recorded
			if row.host != nil {
				row.host(&k)
			}
			if row.of != nil {
				row.of(&r)
			}
			if got := k.Gone(r); got != row.want {
				t.Errorf("gone: %v", got)
			}
		})
	}
}

func openSelf(int) (int, error) { return unix.PidfdOpen(os.Getpid(), 0) }

func ownInode(t *testing.T) uint64 {
	fd, err := openSelf(0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	return inodeOf(fd)
}

func statLine(ticks uint64) []byte {
	return fmt.Appendf(nil, "7 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 %d 5 6\n", ticks)
}

func TestGoneOfRealProcesses(t *testing.T) {
	k := NewKernel()
	// Wherever this test runs, its children's numbers are its own namespace's.
	k.initialNamespace = true
	d := newDoor(t, k)
	c := startChild(t, "connect", d.path)
	p, _ := d.mustAccept()
	gone, stop := p.Watch()
	defer stop()
	if k.Gone(p.Recorded()) {
		t.Error("a living process is gone")
	}
	c.kill()
	mustEnd(t, gone, "the exit")
	if !k.Gone(p.Recorded()) {
		t.Error("a zombie is not gone")
	}
	_ = c.Wait()
	if !k.Gone(p.Recorded()) {
		t.Error("a process that was reaped is not gone")
	}
}

func TestKernelOfThisHost(t *testing.T) {
	k := NewKernel()
	t.Logf("%v", k.LogValue())
	if k.bootID == "" || k.pidNamespace == 0 {
		t.Errorf("boot %q, namespace %d", k.bootID, k.pidNamespace)
	}
	if BootID() != k.bootID {
		t.Error("two boot ids")
	}
}

func TestClock(t *testing.T) {
	clock, err := Clock()
	if err != nil {
		t.Fatal(err)
	}
	var uptime float64
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	before := clock()
	if _, err := fmt.Sscan(string(b), &uptime); err != nil {
		t.Fatal(err)
	}
	// The same clock, in hundredths of a second.
	if off := before.Seconds() - uptime; off < -0.02 || off > patience.Seconds() {
		t.Errorf("clock %v, uptime %v s", before, uptime)
	}
	for range 1000 {
		now := clock()
		if now < before {
			t.Fatalf("%v after %v", now, before)
		}
		before = now
	}
}
