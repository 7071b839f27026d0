package sim

import (
	"context"
	"testing"
	"time"

	"github.com/raftlock/raftlock/link/linkpb"
)

// slowPort answers late, whatever its context says.
type slowPort struct {
	peerPort
	delay time.Duration
}

func (p *slowPort) Answer(context.Context, *linkpb.Question) (*linkpb.Answer, error) {
	time.Sleep(p.delay)
	return &linkpb.Answer{}, nil
}

// TestReach walks who can ask whom under each fault. A question needs both
// ways.
func TestReach(t *testing.T) {
	cases := []struct {
		name           string
		fault          func(n *Net, a, b, c *Host)
		ab, ba, ac, bc bool
	}{
		{"none", func(*Net, *Host, *Host, *Host) {}, true, true, true, true},
		{"partition", func(n *Net, a, b, c *Host) { n.Partition([]*Host{a}, []*Host{b, c}) }, false, false, false, true},
		{"partition with a rest", func(n *Net, a, _, _ *Host) { n.Partition([]*Host{a}) }, false, false, false, true},
		{"one way", func(n *Net, a, b, _ *Host) { n.Cut(a, b) }, false, false, true, true},
		{"both ways", func(n *Net, a, b, _ *Host) { n.CutBoth(a, b) }, false, false, true, true},
		{"isolate", func(n *Net, a, _, _ *Host) { n.Isolate(a) }, false, false, false, true},
		{"mute", func(n *Net, _, b, _ *Host) { n.Mute(b) }, false, false, true, false},
		{"heartbeats only", func(n *Net, _, b, _ *Host) { n.HeartbeatsOnly(b) }, false, false, true, false},
		{"all lost", func(n *Net, _, _, _ *Host) { n.SetLoss(1) }, false, false, false, false},
		{"healed", func(n *Net, a, b, c *Host) {
			n.Isolate(a)
			n.Partition([]*Host{b})
			n.Mute(c)
			n.HeartbeatsOnly(b)
			n.Heal()
		}, true, true, true, true},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *World, a, b *Host) {
				c := w.AddHost("c")
				for _, h := range w.Hosts() {
					h.Serve(&peerPort{})
				}
				k.fault(w.Net, a, b, c)
				for _, way := range []struct {
					from, to *Host
					want     bool
				}{{a, b, k.ab}, {b, a, k.ba}, {a, c, k.ac}, {b, c, k.bc}} {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					_, err := way.from.Network().Ask(ctx, way.to.Addr(), question())
					cancel()
					same(t, way.from.Name+" reaches "+way.to.Name, err == nil, way.want)
				}
				if _, err := a.Network().Ask(t.Context(), a.Addr(), question()); err != nil {
					t.Errorf("a host does not reach itself: %v", err)
				}
			})
		})
	}
}

func TestInFlightAcrossACut(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		w.Net.SetDelay(time.Second, time.Second)
		b.Serve(&peerPort{})
		time.AfterFunc(500*time.Millisecond, func() { w.Net.Cut(a, b) })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := a.Network().Ask(ctx, b.Addr(), question())
		wantErr(t, "ask", err, context.DeadlineExceeded)
	})
}

func TestHoldTo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		b.Serve(&peerPort{})
		up, _ := dialOK(t, a, b)
		until := w.Now() + time.Second
		w.Net.HoldTo(b, until)
		if err := up.Send(beat(1)); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Network().Ask(t.Context(), b.Addr(), question()); err != nil {
			t.Fatal(err)
		}
		if now := w.Now(); now < until || now > until+heldSpread+10*time.Millisecond {
			t.Errorf("answered at %v, held until %v", now, until)
		}
	})
}

func TestAddresses(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		c := w.AddHost("c")
		b.Serve(&peerPort{answer: named("b")})
		c.Serve(&peerPort{answer: named("c")})
		who := func(addr string) string {
			r, err := a.Network().Ask(t.Context(), addr, question())
			if err != nil {
				return err.Error()
			}
			return r.GetServerId()
		}
		old := b.Addr()
		_, down := dialOK(t, a, b)
		same(t, "before", who(old), "b")
		w.MoveAddr(old, c)
		same(t, "reused", who(old), "c")
		same(t, "c's own", c.Addr(), old)
		same(t, "b's fresh one", who(b.Addr()), "b")
		time.Sleep(time.Second)
		_, err := down.state()
		wantErr(t, "link through the moved address", err, ErrBroken)

		gone := c.Addr()
		w.NewAddr(c)
		_, err = a.Network().Ask(t.Context(), gone, question())
		wantErr(t, "given up", err, ErrConnectionRefused)
		same(t, "c's new one", who(c.Addr()), "c")
	})
}

func named(name string) func(context.Context, *linkpb.Question) (*linkpb.Answer, error) {
	return func(context.Context, *linkpb.Question) (*linkpb.Answer, error) {
		return &linkpb.Answer{ServerId: name}, nil
	}
}

// TestDrawsPerLink: what one link draws does not depend on others' traffic.
func TestDrawsPerLink(t *testing.T) {
	draws := func(t *testing.T, noise int) (got []time.Duration) {
		inWorld(t, func(_ *testing.T, w *World, a, b *Host) {
			w.Net.SetDelay(0, time.Second)
			w.mu.Lock()
			defer w.mu.Unlock()
			for range 5 {
				for range noise {
					w.Net.plan(b, a)
				}
				d, _ := w.Net.plan(a, b)
				got = append(got, d)
			}
		})
		return got
	}
	sameList(t, "delays", draws(t, 3), draws(t, 0))
}
