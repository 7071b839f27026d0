package sim

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

func TestLinkIsFIFO(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		w.Net.SetDelay(0, 100*time.Millisecond)
		w.Net.SetStragglers(0.2, time.Second)
		port := &peerPort{echo: true}
		b.Serve(port)
		up, down := dialOK(t, a, b)
		var want []uint64
		for n := range uint64(50) {
			frames := beat(n)
			if err := up.Send(frames); err != nil {
				t.Fatal(err)
			}
			frames[0].GetBeat().Number = 999 // what was sent is a copy
			want = append(want, n)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		sameList(t, "up", port.seen(), want)
		got, err := down.state()
		sameList(t, "down", got, want)
		wantErr(t, "link", err, nil)
		up.Close()
		up.Close()
		wantErr(t, "send on a closed link", up.Send(beat(0)), ErrClosed)
		time.Sleep(2 * time.Second)
		if over := port.over(); len(over) != 1 || !errors.Is(over[0], ErrBroken) {
			t.Errorf("the other end: %v", over)
		}
	})
}

func TestDialRefusals(t *testing.T) {
	cases := []struct {
		name  string
		setUp func(w *World, b *Host)
		want  error
	}{
		{"refused", func(_ *World, b *Host) { b.Serve(&peerPort{refuse: linkpb.Welcome_REFUSAL_NOT_LEADER}) }, link.ErrRefused},
		{"not served", func(*World, *Host) {}, ErrConnectionRefused},
		{"down", func(_ *World, b *Host) { b.Crash() }, ErrConnectionRefused},
		{"cut", func(w *World, b *Host) { b.Serve(&peerPort{}); w.Net.Isolate(b) }, ErrTimeout},
		{"no way back", func(w *World, b *Host) { b.Serve(&peerPort{}); w.Net.Mute(b) }, ErrTimeout},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *World, a, b *Host) {
				c.setUp(w, b)
				conn, welcome, err := a.Network().Dial(t.Context(), b.Addr(), &linkpb.Hello{})
				wantErr(t, "dial", err, c.want)
				if conn != nil {
					t.Error("a refused dial has a link")
				}
				if refused := errors.Is(err, link.ErrRefused); refused && welcome.GetRefusal() != linkpb.Welcome_REFUSAL_NOT_LEADER {
					t.Errorf("welcome: %v", welcome)
				}
			})
		})
	}
}

// TestDialGivenUp: a link that was admitted for a dialler who is gone ends.
func TestDialGivenUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		w.Net.SetDelay(time.Second, time.Second)
		port := &peerPort{}
		b.Serve(port)
		for _, patience := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			_, _, err := a.Network().Dial(ctx, b.Addr(), &linkpb.Hello{})
			cancel()
			wantErr(t, "dial", err, context.DeadlineExceeded)
		}
		time.Sleep(5 * time.Second)
		same(t, "ended links", len(port.over()), 2)
	})
}

func TestLinkAcrossACut(t *testing.T) {
	cases := []struct {
		name   string
		cut    func(n *Net, a, b *Host)
		lasts  time.Duration
		breaks bool
	}{
		{"short", func(n *Net, a, b *Host) { n.CutBoth(a, b) }, 9 * time.Second, false},
		{"short, one way", func(n *Net, a, b *Host) { n.Cut(a, b) }, 9 * time.Second, false},
		{"long", func(n *Net, a, b *Host) { n.CutBoth(a, b) }, 11 * time.Second, true},
		{"long, the other way", func(n *Net, a, b *Host) { n.Cut(b, a) }, 11 * time.Second, true},
		{"long, a partition", func(n *Net, a, _ *Host) { n.Partition([]*Host{a}) }, 11 * time.Second, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *World, a, b *Host) {
				port := &peerPort{echo: true}
				b.Serve(port)
				up, down := dialOK(t, a, b)
				began := time.Now()
				c.cut(w.Net, a, b)
				if err := up.Send(beat(1)); err != nil {
					t.Errorf("a hung link refuses: %v", err)
				}
				time.Sleep(c.lasts)
				w.Net.Heal()
				_ = up.Send(beat(2))
				time.Sleep(time.Second)
				got, err := down.state()
				if !c.breaks {
					sameList(t, "after the heal", got, []uint64{1, 2})
					wantErr(t, "link", err, nil)
					return
				}
				wantErr(t, "link", err, ErrBroken)
				same(t, "broke after", down.at.Sub(began), w.Net.BreakAfter)
				same(t, "ends told", len(port.over()), 1)
			})
		})
	}
}

// TestCloseAcrossACut: who cannot be reached does not learn of a close.
func TestCloseAcrossACut(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		port := &peerPort{}
		b.Serve(port)
		up, _ := dialOK(t, a, b)
		w.Net.CutBoth(a, b)
		up.Close()
		time.Sleep(9 * time.Second)
		same(t, "told before the break", len(port.over()), 0)
		time.Sleep(2 * time.Second)
		same(t, "told after it", len(port.over()), 1)
	})
}

func TestLossBreaksLinks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		port := &peerPort{}
		b.Serve(port)
		up, down := dialOK(t, a, b)
		w.Net.SetLoss(0.5)
		var sent []uint64
		for n := uint64(0); up.Send(beat(n)) == nil; n++ {
			sent = append(sent, n)
			time.Sleep(100 * time.Millisecond)
		}
		_, err := down.state()
		wantErr(t, "link", err, ErrBroken)
		got := port.seen()
		if len(got) == len(sent) {
			t.Error("nothing was lost")
		}
		sameList(t, "a prefix arrived", got, sent[:len(got)])
	})
}

// deafPort never reads.
type deafPort struct {
	peerPort
	until chan struct{}
}

func (p *deafPort) Link(*linkpb.Hello, *linkpb.Welcome, link.DownConn) { <-p.until }

func TestLinkOverflow(t *testing.T) {
	inWorld(t, func(t *testing.T, _ *World, a, b *Host) {
		port := &deafPort{until: make(chan struct{})}
		b.Serve(port)
		up, down := dialOK(t, a, b)
		for n := range uint64(backlogMax) {
			if err := up.Send(beat(n)); err != nil {
				t.Fatalf("batch %d: %v", n, err)
			}
		}
		wantErr(t, "one more", up.Send(beat(0)), ErrOverflow)
		time.Sleep(time.Second)
		_, err := down.state()
		wantErr(t, "link", err, ErrBroken)
		close(port.until)
	})
}

func TestAsk(t *testing.T) {
	inWorld(t, func(t *testing.T, _ *World, a, b *Host) {
		b.Serve(&peerPort{answer: func(ctx context.Context, q *linkpb.Question) (*linkpb.Answer, error) {
			if q.GetFrom() == "bad" {
				return nil, link.ErrRefused
			}
			if _, ok := ctx.Deadline(); ok {
				<-ctx.Done()
			}
			return &linkpb.Answer{ServerId: "b"}, nil
		}})
		ask := func(ctx context.Context, addr string, q *linkpb.Question) error {
			_, err := a.Network().Ask(ctx, addr, q)
			return err
		}
		wantErr(t, "ask", ask(t.Context(), b.Addr(), question()), nil)
		wantErr(t, "nobody", ask(t.Context(), "nowhere:1", question()), ErrConnectionRefused)
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		wantErr(t, "deadline", ask(short, b.Addr(), question()), context.DeadlineExceeded)
		err := ask(t.Context(), b.Addr(), &linkpb.Question{From: "bad"})
		if err == nil || errors.Is(err, link.ErrRefused) {
			t.Errorf("an error's identity crossed the network: %v", err)
		}
	})
}
