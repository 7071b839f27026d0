package runner

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lead starts a shell that leads a group, and stays until it is waited for.
func lead(t *testing.T, script string) (group, *exec.Cmd) {
	t.Helper()
	g := group{fd: -1}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, PidFD: &g.fd}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g.id = cmd.Process.Pid
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); g.close() })
	return g, cmd
}

// kinds are the two ways to know a group: by its number, and as itself.
func kinds(t *testing.T, test func(t *testing.T, kind func(group) group)) {
	t.Run("by pidfd", func(t *testing.T) { test(t, func(g group) group { return g }) })
	t.Run("by number", func(t *testing.T) { test(t, func(g group) group { return group{id: g.id, fd: -1} }) })
}

func TestGroupEnds(t *testing.T) {
	kinds(t, func(t *testing.T, kind func(group) group) {
		known, cmd := lead(t, "trap '' TERM; sleep 60 & sleep 60 | cat")
		g := kind(known)
		if g.empty() {
			t.Fatal("empty at the start")
		}
		if !g.kill(clock() + time.Minute) {
			t.Fatal("killed, and not empty")
		}
		// The leader is a zombie of ours now, so the number is the group's still.
		if err := g.signal(0); err != nil {
			t.Errorf("the leader's number is free: %v", err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("not killed")
		}
	})
}

func TestGroupOutlivesItsLeader(t *testing.T) {
	kinds(t, func(t *testing.T, kind func(group) group) {
		known, cmd := lead(t, "sleep 60 & exit 0")
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		g := kind(known)
		if g.empty() {
			t.Fatal("empty without its leader")
		}
		if !g.kill(clock() + time.Minute) {
			t.Fatal("killed, and not empty")
		}
	})
}

// A group that is gone is never another one of the same number. Here a number is
// given that is a living stranger's.
func TestGroupIsNoStranger(t *testing.T) {
	gone, cmd := lead(t, "exit 0")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	stranger, _ := lead(t, "sleep 60")
	g := group{id: stranger.id, fd: gone.fd}
	if !g.empty() || g.signal(unix.SIGKILL) != unix.ESRCH || !g.kill(clock()) {
		t.Error("the group is not gone")
	}
	if stranger.empty() {
		t.Error("a stranger was killed")
	}
}

func TestKilledIsGone(t *testing.T) {
	for _, c := range []struct {
		name    string
		lives   int // how many looks find it alive
		within  time.Duration
		gone    bool
		signals int
	}{
		{"at once", 0, time.Hour, true, 1},
		{"after a while", 3, time.Hour, true, 4},
		{"never", 1 << 30, 0, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			looks, signals := 0, 0
			gone := killed(
				func(s syscall.Signal) error { signals++; return nil },
				func() bool { looks++; return looks > c.lives },
				clock()+c.within)
			if gone != c.gone || signals != c.signals {
				t.Errorf("gone: %v after %d signals, want %v after %d", gone, signals, c.gone, c.signals)
			}
		})
	}
}

func TestLivesIn(t *testing.T) {
	const rest = " 1 77 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 "
	for _, c := range []struct {
		name, stat string
		want       bool
	}{
		{"asleep", "9 (sh) S 1 77 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0", true},
		{"of another group", "77 (sh) S 77 78 77 77 -1 0 0 0 0 0 0 0 0 0 20 0 1 0", false},
		{"stopped", "9 (sh) T" + rest + "1 0", true},
		{"a zombie", "9 (sh) Z" + rest + "1 0", false},
		{"a first thread that ended", "9 (sh) Z" + rest + "3 0", true},
		{"being taken away", "9 (sh) X" + rest + "0 0", false},
		{"a name with everything", "9 (a) Z 1 1 (b)) S" + rest + "1 0", true},
		{"nothing", "", false},
		{"cut", "9 (sh) S 1 77", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := livesIn(c.stat, 77); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil || !livesIn(string(own), unix.Getpgrp()) {
		t.Errorf("this process is not in its group %s: %q (%v)", strconv.Itoa(unix.Getpgrp()), own, err)
	}
}
