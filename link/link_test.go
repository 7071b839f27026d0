package link

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/raftlock/raftlock/link/linkpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs f in virtual time, with a network and a client that is closed
// at the end.
func bubble(t *testing.T, f func(t *testing.T, n *testNet, c *Client)) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet()
		c := n.client()
		defer c.Close()
		f(t, n, c)
	})
}

func dial(t *testing.T, c *Client, addr string) UpConn {
	t.Helper()
	u, w, err := c.Dial(t.Context(), addr, hello())
	if err != nil {
		t.Fatal(err)
	}
	if w.ServerId != "server" || w.Term != 3 {
		t.Fatalf("welcome is %v", w)
	}
	return u
}

func TestRefusal(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		defer n.serving(t, "a", &handler{admit: func(h *linkpb.Hello) *linkpb.Welcome {
			if h.Agent != "agent" || h.Incarnation != 7 {
				t.Errorf("hello is %v", h)
			}
			return &linkpb.Welcome{Refusal: linkpb.Welcome_REFUSAL_NOT_LEADER, LeaderAddress: "b"}
		}})()
		u, w, err := c.Dial(t.Context(), "a", hello())
		if u != nil || !errors.Is(err, ErrRefused) || w.GetLeaderAddress() != "b" {
			t.Errorf("got %v, %v, %v", u, w, err)
		}
	})
}

func TestDialFails(t *testing.T) {
	for name, c := range map[string]struct {
		hello *linkpb.Hello
		addr  string
		do    func(n *testNet, c *Client, cancel func())
		want  error
	}{
		"nobody there":        {hello(), "nobody", nil, ErrClosed},
		"malformed hello":     {&linkpb.Hello{}, "a", nil, ErrInvalid},
		"wrong version":       {hello(), "a", nil, ErrInvalid},
		"cancelled":           {hello(), "silent", func(_ *testNet, _ *Client, cancel func()) { cancel() }, context.Canceled},
		"client closed":       {hello(), "silent", func(_ *testNet, c *Client, _ func()) { c.Close() }, ErrClosed},
		"vanished meanwhile":  {hello(), "silent", func(n *testNet, _ *Client, _ func()) { n.cut() }, ErrClosed},
		"client long closed ": {hello(), "a", nil, ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *testNet, client *Client) {
				quiet := make(chan struct{})
				defer n.serving(t, "a", &handler{admit: func(*linkpb.Hello) *linkpb.Welcome { return &linkpb.Welcome{Version: 9} }})()
				defer n.serving(t, "silent", &handler{admit: func(*linkpb.Hello) *linkpb.Welcome {
					<-quiet
					return nil
				}})()
				defer close(quiet)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if name == "client long closed " {
					client.Close()
				}
				if c.do != nil {
					time.AfterFunc(time.Second, func() { c.do(n, client, cancel) })
				}
				u, _, err := client.Dial(ctx, c.addr, c.hello)
				if u != nil || !errors.Is(err, c.want) {
					t.Errorf("got %v, %v", u, err)
				}
			})
		})
	}
}

// TestGreetingIsFirst talks to the server without a Client's manners.
func TestGreetingIsFirst(t *testing.T) {
	for name, c := range map[string]struct {
		send []*linkpb.UpBatch
		want codes.Code
	}{
		"silence":         {nil, codes.InvalidArgument},
		"no hello":        {[]*linkpb.UpBatch{{}}, codes.InvalidArgument},
		"malformed hello": {[]*linkpb.UpBatch{{Hello: &linkpb.Hello{}}}, codes.InvalidArgument},
		"frames at once":  {[]*linkpb.UpBatch{{Hello: hello(), Frames: []*Up{beat(1)}}}, codes.InvalidArgument},
		"a second hello":  {[]*linkpb.UpBatch{{Hello: hello()}, {Hello: hello()}}, codes.InvalidArgument},
		"an empty batch":  {[]*linkpb.UpBatch{{Hello: hello()}, {}, {Frames: []*Up{{}}}}, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *testNet, client *Client) {
				defer n.serving(t, "a", &handler{})()
				cc, err := client.connect("a")
				if err != nil {
					t.Fatal(err)
				}
				defer cc.Close()
				stream, err := linkpb.NewPeerClient(cc).Link(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range c.send {
					if err := stream.Send(b); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				for err == nil {
					_, err = stream.Recv()
				}
				if status.Code(err) != c.want || time.Since(began) > helloTimeout {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
			})
		})
	}
}

func TestOrder(t *testing.T) {
	const total = 3*FramesMax + 17
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		defer n.serving(t, "a", &handler{link: func(conn DownConn) {
			for {
				frames, err := conn.Recv()
				if err != nil {
					return
				}
				var answers []*Down
				for _, f := range frames {
					answers = append(answers, beatAnswer(f.GetBeat().Number))
				}
				if err := conn.Send(answers); err != nil {
					return
				}
			}
		}})()
		u := dial(t, c, "a")
		go func() {
			var frames []*Up
			for i := range uint64(total) {
				frames = append(frames, beat(i))
			}
			for _, part := range [][]*Up{frames[:1], frames[1:10], {}, frames[10:]} {
				if err := u.Send(part); err != nil {
					t.Error(err)
				}
			}
		}()
		for next := uint64(0); next < total; {
			frames, err := u.Recv()
			if err != nil || len(frames) == 0 || len(frames) > FramesMax {
				t.Fatalf("%d frames, %v", len(frames), err)
			}
			for _, f := range frames {
				if f.GetBeat().GetNumber() != next {
					t.Fatalf("got %v, want %d", f, next)
				}
				next++
			}
		}
	})
}

// TestEnds is about everything that ends a link: both ends' Recv return, and
// the handler with them.
func TestEnds(t *testing.T) {
	for name, end := range map[string]func(up UpConn, down DownConn, c *Client, n *testNet, stop func()){
		"agent closes":   func(up UpConn, _ DownConn, _ *Client, _ *testNet, _ func()) { up.Close(); up.Close() },
		"leader closes":  func(_ UpConn, down DownConn, _ *Client, _ *testNet, _ func()) { down.Close(); down.Close() },
		"client closes":  func(_ UpConn, _ DownConn, c *Client, _ *testNet, _ func()) { c.Close(); c.Close() },
		"server stops":   func(_ UpConn, _ DownConn, _ *Client, _ *testNet, stop func()) { stop() },
		"network is cut": func(_ UpConn, _ DownConn, _ *Client, n *testNet, _ func()) { n.cut() },
	} {
		for _, stuck := range []string{"nobody", "agent", "leader"} {
			t.Run(name+", stuck: "+stuck, func(t *testing.T) {
				bubble(t, func(t *testing.T, n *testNet, c *Client) {
					ended, downs, downEnd := make(chan struct{}), make(chan DownConn), make(chan error, 1)
					stop := n.serving(t, "a", &handler{link: func(conn DownConn) {
						downs <- conn
						if stuck == "leader" {
							downEnd <- until(func() error { return conn.Send([]*Down{beatAnswer(1)}) })
							return
						}
						if stuck == "agent" {
							<-ended
						}
						downEnd <- until(func() error { _, err := conn.Recv(); return err })
					}})
					defer stop()
					up := dial(t, c, "a")
					down, upEnd := <-downs, make(chan error, 1)
					go func() {
						if stuck == "agent" {
							upEnd <- until(func() error { return up.Send([]*Up{beat(1)}) })
							return
						}
						if stuck == "leader" {
							<-ended
						}
						upEnd <- until(func() error { _, err := up.Recv(); return err })
					}()
					synctest.Wait()
					began := time.Now()
					go func() { defer close(ended); end(up, down, c, n, func() {}) }()
					if name == "server stops" {
						go stop()
					}
					for side, err := range map[string]error{"agent": <-upEnd, "leader": <-downEnd} {
						if !errors.Is(err, ErrClosed) {
							t.Errorf("%s: %v", side, err)
						}
					}
					if d := time.Since(began); d > pingAfter+pingTimeout || d > 0 && name != "network is cut" {
						t.Errorf("took %v", d)
					}
					if up.Send([]*Up{beat(1)}) == nil {
						t.Error("Send after the end")
					}
				})
			})
		}
	}
}

func until(f func() error) (err error) {
	for err == nil {
		err = f()
	}
	return err
}

// TestHandlerReturns: the link is over when its handler says so, and what it
// sent before arrives.
func TestHandlerReturns(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		defer n.serving(t, "a", &handler{link: func(conn DownConn) {
			_ = conn.Send([]*Down{beatAnswer(1)})
			conn.Close()
			if conn.Send([]*Down{beatAnswer(2)}) == nil {
				t.Error("Send after Close")
			}
			if _, err := conn.Recv(); !errors.Is(err, ErrClosed) {
				t.Errorf("Recv after Close: %v", err)
			}
		}})()
		u := dial(t, c, "a")
		if frames, err := u.Recv(); err != nil || len(frames) != 1 {
			t.Errorf("%v, %v", frames, err)
		}
		if _, err := u.Recv(); !errors.Is(err, ErrClosed) {
			t.Errorf("Recv: %v", err)
		}
	})
}

func TestInvalidFrames(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		met := make(chan error, 1)
		defer n.serving(t, "a", &handler{link: func(conn DownConn) {
			_, err := conn.Recv()
			met <- err
		}})()
		u := dial(t, c, "a")
		if err := u.Send([]*Up{beat(1), {Frame: &linkpb.Up_Beat{Beat: &linkpb.Beat{Except: [][]byte{{1, 2}}}}}}); err != nil {
			t.Fatal(err)
		}
		if err := <-met; !errors.Is(err, ErrInvalid) {
			t.Errorf("leader: %v", err)
		}
		if _, err := u.Recv(); !errors.Is(err, ErrInvalid) {
			t.Errorf("agent: %v", err)
		}
	})
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		met := make(chan error, 1)
		defer n.serving(t, "a", &handler{link: func(conn DownConn) {
			_ = conn.Send([]*Down{{}})
			_, err := conn.Recv()
			met <- err
		}})()
		if _, err := dial(t, c, "a").Recv(); !errors.Is(err, ErrInvalid) {
			t.Errorf("agent: %v", err)
		}
		if err := <-met; !errors.Is(err, ErrClosed) {
			t.Errorf("leader: %v", err)
		}
	})
}

func TestLargeFrames(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		got := make(chan int, 10)
		defer n.serving(t, "a", &handler{link: func(conn DownConn) {
			for {
				frames, err := conn.Recv()
				if err != nil {
					return
				}
				got <- len(frames)
			}
		}})()
		u := dial(t, c, "a")
		if err := u.Send([]*Up{beat(1), large(MessageBytesMax)}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("got %v", err)
		}
		// The largest there is: what remains is for lengths and tags.
		if err := u.Send([]*Up{beat(1), large(MessageBytesMax - 30), large(3 << 20), large(1 << 19), large(1 << 19), beat(2)}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{1, 1, 2, 2} {
			if n := <-got; n != want {
				t.Errorf("a batch of %d, want %d", n, want)
			}
		}
	})
}
