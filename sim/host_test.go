package sim

import (
	"testing"
	"time"

	"github.com/raftlock/raftlock/link/linkpb"
)

func TestClockRates(t *testing.T) {
	cases := []struct {
		name  string
		rates []float64 // each for an hour
	}{
		{"true", []float64{1}},
		{"fast", []float64{1.01}},
		{"slow", []float64{0.99}},
		{"changing", []float64{1, 1.01, 0.99, 1.01}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *World, a, _ *Host) {
				clock := a.Clock()
				begin, want := clock(), time.Duration(0)
				for _, rate := range c.rates {
					a.SetRate(rate)
					time.Sleep(time.Hour)
					want += scale(time.Hour, rate)
				}
				same(t, "elapsed", clock()-begin, want)
				for _, back := range []time.Duration{0, time.Minute, 90 * time.Minute} {
					then := w.Now() - back
					got := a.True(a.clock.At(then))
					if diff := got - then; then > 0 && (diff < -1 || diff > 1) {
						t.Errorf("true time of a reading %v ago is off by %v", back, diff)
					}
				}
			})
		})
	}
}

func TestClockSurvivesCrashAndPause(t *testing.T) {
	inWorld(t, func(t *testing.T, _ *World, a, b *Host) {
		clock := a.Clock()
		begin := clock()
		if begin == b.Clock()() {
			t.Error("two hosts' clocks show the same")
		}
		a.Pause()
		time.Sleep(time.Second)
		a.Crash()
		time.Sleep(time.Second)
		a.Restart()
		a.Resume()
		same(t, "elapsed", a.Clock()()-begin, 2*time.Second)
	})
}

func TestPauseHoldsMessagesAndDisk(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		port := &peerPort{echo: true}
		b.Serve(port)
		up, down := dialOK(t, a, b)
		clock := b.Clock()
		before := clock()
		b.Pause()
		saved := make(chan time.Duration, 1)
		go func() {
			if err := b.Disk.KV().Save("k", []byte("v")); err != nil {
				t.Error(err)
			}
			saved <- w.Now()
		}()
		asked := make(chan time.Duration, 1)
		go func() {
			if _, err := a.Network().Ask(t.Context(), b.Addr(), question()); err != nil {
				t.Error(err)
			}
			asked <- w.Now()
		}()
		if err := up.Send(beat(1)); err != nil {
			t.Fatal(err)
		}
		// b's goroutines run, but what they send stays.
		if err := port.conn().Send([]*linkpb.Down{{Frame: &linkpb.Down_Beat{Beat: &linkpb.BeatAnswer{Number: 7}}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		sameList(t, "seen while paused", port.seen(), nil)
		got, _ := down.state()
		sameList(t, "heard from the paused", got, nil)
		same(t, "clock", clock()-before, 5*time.Second)
		resumed := w.Now()
		b.Resume()
		time.Sleep(time.Second)
		sameList(t, "seen", port.seen(), []uint64{1})
		got, err := down.state()
		sameList(t, "heard", got, []uint64{7, 1})
		wantErr(t, "link", err, nil)
		for what, at := range map[string]time.Duration{"disk": <-saved, "question": <-asked} {
			if at < resumed {
				t.Errorf("%s was served during the pause, %v before its end", what, resumed-at)
			}
		}
	})
}

func TestCrashKillsAnIncarnation(t *testing.T) {
	inWorld(t, func(t *testing.T, _ *World, a, b *Host) {
		port, next := &peerPort{echo: true}, &peerPort{echo: true}
		b.Serve(port)
		up, down := dialOK(t, a, b)
		ctx, net, kv := b.Context(), b.Network(), b.Disk.KV()
		ghost := port.conn()
		b.Crash()
		if ctx.Err() == nil {
			t.Error("the incarnation's context lives")
		}
		_, err := net.Ask(t.Context(), a.Addr(), question())
		wantErr(t, "a ghost's question", err, ErrDead)
		wantErr(t, "a ghost's frame", ghost.Send(nil), ErrDead)
		wantErr(t, "a ghost's write", kv.Save("k", nil), ErrDead)
		time.Sleep(100 * time.Millisecond)
		_, err = down.state()
		wantErr(t, "the other end", err, ErrBroken)
		wantErr(t, "send to the dead", up.Send(beat(1)), ErrBroken)
		_, err = a.Network().Ask(t.Context(), b.Addr(), question())
		wantErr(t, "ask the dead", err, ErrConnectionRefused)

		b.Restart()
		same(t, "incarnation", b.Incarnation(), 2)
		_, err = a.Network().Ask(t.Context(), b.Addr(), question())
		wantErr(t, "ask before it serves", err, ErrConnectionRefused)
		b.Serve(next)
		if _, err = a.Network().Ask(t.Context(), b.Addr(), question()); err != nil {
			t.Errorf("ask the new incarnation: %v", err)
		}
		wantErr(t, "a ghost's write after the restart", kv.Save("k", nil), ErrDead)
	})
}

// TestGhostAnswersNobody: a question taken before the crash is answered after
// it, by a goroutine that does not know.
func TestGhostAnswersNobody(t *testing.T) {
	inWorld(t, func(t *testing.T, _ *World, a, b *Host) {
		b.Serve(&slowPort{delay: time.Second})
		time.AfterFunc(500*time.Millisecond, b.Crash)
		_, err := a.Network().Ask(t.Context(), b.Addr(), question())
		wantErr(t, "ask", err, ErrBroken)
		time.Sleep(time.Second)
	})
}

func TestPowerOffIsSilent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		b.Serve(&peerPort{})
		_, down := dialOK(t, a, b)
		b.PowerOff()
		time.Sleep(w.Net.BreakAfter - time.Second)
		_, err := down.state()
		wantErr(t, "link too early", err, nil)
		time.Sleep(2 * time.Second)
		_, err = down.state()
		wantErr(t, "link", err, ErrBroken)
		_, err = a.Network().Ask(t.Context(), b.Addr(), question())
		wantErr(t, "ask", err, ErrTimeout)
	})
}

func TestRestartAfter(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		var started []time.Duration
		w.OnRestart(func(*Host) { started = append(started, w.Now()) })
		begin := w.Now()
		a.Crash()
		a.RestartAfter(time.Second)
		b.Crash()
		b.RestartAfter(2 * time.Second)
		time.Sleep(1500 * time.Millisecond)
		b.Restart() // by hand: the planned one is off
		time.Sleep(time.Second)
		sameList(t, "starts", started, []time.Duration{begin + time.Second, begin + 1500*time.Millisecond})
		same(t, "b's incarnation", b.Incarnation(), 2)
		a.Crash()
		a.RestartAfter(time.Second) // the world ends first
	})
}
