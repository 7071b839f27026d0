package sim

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// quiet runs five bare raft nodes with default timeouts and five applies a
// second.
func quiet(t *testing.T, virtual time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		w := New(t, 1)
		c := newBare(w, 5)
		c.awaitLeader(20 * time.Second)
		for end := w.Now() + virtual; w.Now() < end; time.Sleep(200 * time.Millisecond) {
			c.apply([]byte("x"))
		}
		c.settle()
		c.close()
	})
}

// TestSpeed guards against the world becoming slower by an order of magnitude.
// It counts processor time, as the machine may have other things to do.
func TestSpeed(t *testing.T) {
	const virtual = 200 * time.Second
	began, used := time.Now(), processorTime(t)
	quiet(t, virtual)
	used = processorTime(t) - used
	rate := virtual.Seconds() / used.Seconds()
	t.Logf("%.0f virtual seconds a processor second, %.0f a real second", rate, virtual.Seconds()/time.Since(began).Seconds())
	if rate < 20 {
		t.Errorf("only %.0f virtual seconds a processor second", rate)
	}
}

func processorTime(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
