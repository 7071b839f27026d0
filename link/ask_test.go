package link

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/raftlock/raftlock/link/linkpb"
)

func hang(ctx context.Context, _ *linkpb.Question) (*linkpb.Answer, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestAsk(t *testing.T) {
	for name, c := range map[string]struct {
		addr string
		q    *linkpb.Question
		do   func(cancel func(), c *Client)
		want error
		took time.Duration
	}{
		"answered":        {"a", question(), nil, nil, 0},
		"nothing asked":   {"a", &linkpb.Question{}, nil, ErrInvalid, 0},
		"handler's error": {"sick", question(), nil, nil, 0},
		"no answer":       {"hung", question(), nil, context.DeadlineExceeded, 3 * time.Second},
		"cancelled":       {"hung", question(), func(cancel func(), _ *Client) { cancel() }, context.Canceled, time.Second},
		"closed":          {"hung", question(), func(_ func(), c *Client) { c.Close() }, ErrClosed, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *testNet, client *Client) {
				defer n.serving(t, "a", &handler{})()
				defer n.serving(t, "hung", &handler{answer: hang})()
				defer n.serving(t, "sick", &handler{answer: func(context.Context, *linkpb.Question) (*linkpb.Answer, error) {
					return nil, errors.New("sick")
				}})()
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				if c.do != nil {
					time.AfterFunc(time.Second, func() { c.do(cancel, client) })
				}
				began := time.Now()
				a, err := client.Ask(ctx, c.addr, c.q)
				if time.Since(began) != c.took {
					t.Errorf("took %v", time.Since(began))
				}
				switch {
				case name == "answered" && (err != nil || a.ServerId != "server" || a.GetTerm().Term != 3):
					t.Errorf("got %v, %v", a, err)
				case name == "handler's error" && status.Code(err) != codes.Internal:
					t.Errorf("got %v, %v", a, err)
				case c.want != nil && !errors.Is(err, c.want):
					t.Errorf("got %v, %v", a, err)
				}
			})
		})
	}
}

// TestAskAgain: an address that was away for an hour, being asked all the time,
// answers within a second of its return.
func TestAskAgain(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		stop := n.serving(t, "a", &handler{})
		if _, err := c.Ask(t.Context(), "a", question()); err != nil {
			t.Fatal(err)
		}
		stop()
		for range 3600 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := c.Ask(ctx, "a", question()); err == nil {
				t.Error("an answer from nobody")
			}
			cancel()
			time.Sleep(time.Second)
		}
		defer n.serving(t, "a", &handler{})()
		began := time.Now()
		for {
			_, err := c.Ask(t.Context(), "a", question())
			if err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if d := time.Since(began); d > 500*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}

// TestAskPastDeadConnection: a connection cut without a word costs one question,
// not all of them until TCP or keepalive gives up.
func TestAskPastDeadConnection(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		defer n.serving(t, "a", &handler{})()
		ask := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err := c.Ask(ctx, "a", question())
			return err
		}
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		n.cut()
		if err := ask(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("asked nobody: %v", err)
		}
		if err := ask(); err != nil {
			t.Errorf("asked anew: %v", err)
		}
	})
}

// TestAskIdle: an address not asked for a while has no connection left, and is
// connected to again.
func TestAskIdle(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		defer n.serving(t, "a", &handler{})()
		for range 3 {
			if _, err := c.Ask(t.Context(), "a", question()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * idleTimeout)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.dials != 3 {
			t.Errorf("dialled %d times", n.dials)
		}
	})
}

func TestAskManyAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		for i := range 5 {
			defer n.serving(t, fmt.Sprint(i), &handler{answer: func(_ context.Context, q *linkpb.Question) (*linkpb.Answer, error) {
				time.Sleep(50 * time.Millisecond)
				return &linkpb.Answer{Agent: q.From}, nil
			}})()
		}
		var all sync.WaitGroup
		for i := range 2000 {
			all.Go(func() {
				q := question()
				q.From = fmt.Sprint(i)
				a, err := c.Ask(t.Context(), fmt.Sprint(i%5), q)
				if err != nil || a.Agent != q.From {
					t.Errorf("%v, %v", a, err)
				}
			})
		}
		all.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.dials != 5 {
			t.Errorf("dialled %d times", n.dials)
		}
	})
}

// TestAskManyAddresses: connections are kept for so many addresses, and no
// question under way loses its own.
func TestAskManyAddresses(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		release := make(chan struct{})
		h := &handler{answer: func(context.Context, *linkpb.Question) (*linkpb.Answer, error) {
			<-release
			return &linkpb.Answer{}, nil
		}}
		var all sync.WaitGroup
		for i := range peersMax {
			defer n.serving(t, fmt.Sprint(i), h)()
			all.Go(func() {
				if _, err := c.Ask(t.Context(), fmt.Sprint(i), question()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		defer n.serving(t, "one more", &handler{})()
		if _, err := c.Ask(t.Context(), "one more", question()); !errors.Is(err, ErrBusy) {
			t.Errorf("got %v", err)
		}
		close(release)
		all.Wait()
		if _, err := c.Ask(t.Context(), "one more", question()); err != nil {
			t.Error(err)
		}
		if known, _ := c.peers.kept(); known != peersMax {
			t.Errorf("%d peers are known", known)
		}
	})
}

// TestRetiredPeerIsClosedByTheLast: a slow question keeps the connection that
// another gave up on.
func TestRetiredPeerIsClosedByTheLast(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		defer n.serving(t, "a", &handler{answer: func(ctx context.Context, q *linkpb.Question) (*linkpb.Answer, error) {
			if q.From == "slow" {
				time.Sleep(2 * time.Second)
				return &linkpb.Answer{}, nil
			}
			return hang(ctx, q)
		}})()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := c.Ask(t.Context(), "a", &linkpb.Question{From: "slow", Question: question().Question}); err != nil {
				t.Error(err)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Ask(ctx, "a", question()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if known, retired := c.peers.kept(); retired != 1 || known != 0 {
			t.Error("it is not retired")
		}
		all.Wait()
		if _, retired := c.peers.kept(); retired != 0 {
			t.Error("it is still there")
		}
	})
}

func (ps *peers) kept() (known, retired int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return len(ps.known), len(ps.retired)
}
