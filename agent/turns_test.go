package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// queue hands out turns, and keeps whose they were; stuck until ctx ends, or full.
type queue struct {
	took        []string
	open        int
	stuck, full bool
}

func (q *queue) Take(ctx context.Context, identity string) (rest, done func(), err error) {
	switch {
	case q.full:
		return nil, nil, errors.New("full")
	case q.stuck:
		<-ctx.Done()
		return nil, nil, ctx.Err()
	}
	q.took = append(q.took, identity)
	q.open++
	return func() {}, func() { q.open-- }, nil
}

// counter is a Limiter that lets everybody in.
type counter struct{ entered, under int }

func (c *counter) Enter(string) (func(), time.Duration, bool) {
	c.entered++
	c.under++
	return func() { c.under-- }, 0, true
}
func (c *counter) Look(identity string) (func(), time.Duration, bool) { return c.Enter(identity) }
func (*counter) Renew(string) (time.Duration, bool)                   { return 0, true }
func (*counter) Admit(string) (time.Duration, bool)                   { return 0, true }

// A list takes one turn of its caller's, and is counted once, whoever brings it;
// one that gets none in time is told when to come back.
func TestHeavyWorkTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		work, asked, count := &queue{}, &queue{}, &counter{}
		s := NewAPI(&Agent{}, APIConfig{
			Identity: func(context.Context) (string, bool) { return "uid:7", true },
			Limiter:  count, Work: work, Asked: asked, Log: slog.New(slog.DiscardHandler),
		})
		// Too long a question: it gets its turn, and goes no further.
		q := &api.ListRequest{Prefix: string(make([]byte, queryBytesMax))}
		for name, list := range map[string]func() error{
			"gRPC": func() error { _, err := s.List(t.Context(), q); return err },
			"JSON": func() error {
				ctx, leave, err := s.EnterRead(t.Context())
				if err != nil {
					return err
				}
				defer leave()
				ctx, _, done, err := s.Page(ctx, q.Stale)
				if err != nil {
					return err
				}
				defer done()
				_, err = s.List(ctx, q)
				return err
			},
		} {
			asked.took, count.entered = nil, 0
			asked.stuck, asked.full = false, false
			if st, _ := infoOf(t, list()); st.Code() != codes.InvalidArgument {
				t.Errorf("%s: %v", name, st)
			}
			if !slices.Equal(asked.took, []string{"uid:7"}) || asked.open != 0 || count.entered != 1 || count.under != 0 {
				t.Errorf("%s: turns of %v, %d kept; counted %d times, %d kept", name, asked.took, asked.open, count.entered, count.under)
			}
			asked.stuck = true
			began := time.Now()
			if _, info := infoOf(t, list()); info.Reason != "CANCELLED" || info.Metadata["applied"] != "no" || time.Since(began) != readTimeout {
				t.Errorf("%s without a turn: %v after %v", name, info, time.Since(began))
			}
			asked.full = true
			if st, info := infoOf(t, list()); st.Code() != codes.ResourceExhausted || info.Reason != "RATE_LIMITED" {
				t.Errorf("%s in a crowd: %v", name, st)
			}
			if count.under != 0 {
				t.Errorf("%s: %d are counted still", name, count.under)
			}
		}
		if done, err := s.Parse(t.Context()); err != nil || len(work.took) != 1 {
			t.Errorf("a body waits for who asks a leader: %v", err)
		} else {
			done()
		}
		if work.open != 0 {
			t.Errorf("%d bodies are being read", work.open)
		}
	})
}
