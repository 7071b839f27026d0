package sim

import (
	"testing"
	"testing/synctest"
	"time"
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

// TestSpeed guards against the world becoming slow by an order of magnitude;
// the log has the figure.
func TestSpeed(t *testing.T) {
	const virtual = 200 * time.Second
	began := time.Now()
	quiet(t, virtual)
	rate := virtual.Seconds() / time.Since(began).Seconds()
	t.Logf("%.0f virtual seconds a real second", rate)
	if rate < 10 {
		t.Errorf("only %.0f virtual seconds a real second", rate)
	}
}
