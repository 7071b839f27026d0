package agent

import (
	"context"
	"time"

	"github.com/raftlock/raftlock/telemetry"
)

// Turns let few pieces of heavy work go on at once, and identities in turn. Take
// waits for a turn: rest gives it back when the work is done, done also says that
// nothing is left of what was made. It fails when ctx ends, or at once, when too
// much of the identity's waits.
type Turns interface {
	Take(ctx context.Context, identity string) (rest, done func(), err error)
}

// crowdedLater is when to come back for who has too much waiting: nobody knows.
const crowdedLater = time.Second

// underWay marks the context of a request that was counted in by who brings it,
// and inTurn that of one that has its turn.
type (
	underWay struct{}
	inTurn   struct{}
)

// EnterRead counts a read in before the API is asked, by the context that it
// returns; leave must be called when its answer was written.
func (s *API) EnterRead(ctx context.Context) (in context.Context, leave func(), err error) {
	leave, err = s.counted(ctx)
	return context.WithValue(ctx, underWay{}, true), leave, err
}

// EnterAcquire is EnterRead for an acquire.
func (s *API) EnterAcquire(ctx context.Context) (in context.Context, leave func(), err error) {
	in, leave, err = s.EnterRead(ctx)
	if err != nil {
		s.a.cfg.Metrics.Acquired(telemetry.Refused)
	}
	return in, leave, err
}

// counted is enter, unless it was done already.
func (s *API) counted(ctx context.Context) (leave func(), err error) {
	if ctx.Value(underWay{}) != nil {
		return func() {}, nil
	}
	return s.enter(ctx)
}

// Parse waits until what a caller wrote may be read; done must be called when it
// was.
func (s *API) Parse(ctx context.Context) (done func(), err error) {
	_, done, err = s.turn(ctx, s.cfg.Work)
	return done, err
}

// Page waits until a page of locks may be read, by the context that it returns;
// rest must be called when its answer was made, done when it was written.
func (s *API) Page(ctx context.Context, stale bool) (in context.Context, rest, done func(), err error) {
	if ctx.Value(inTurn{}) != nil {
		return ctx, func() {}, func() {}, nil
	}
	of := s.cfg.Asked
	if stale && s.a.Node() != nil {
		of = s.cfg.Work
	}
	rest, done, err = s.turn(ctx, of)
	return context.WithValue(ctx, inTurn{}, true), rest, done, err
}

func (s *API) turn(ctx context.Context, of Turns) (rest, done func(), err error) {
	if of == nil {
		return func() {}, func() {}, nil
	}
	identity, err := s.identity(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	rest, done, err = of.Take(ctx, identity)
	switch {
	case err == nil:
		return rest, done, nil
	case ctx.Err() == nil:
		return nil, nil, limited("requests of "+identity, crowdedLater)
	}
	return nil, nil, s.refusal(ctx.Err(), reads)
}
