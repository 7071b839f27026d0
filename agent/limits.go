package agent

import (
	"context"
	"time"
)

// Limiter bounds what each identity asks of this agent. Its methods are called
// from any goroutine and must be quick. One that says no tells when to come
// back.
type Limiter interface {
	// Enter is for a request: a read, or an acquire for as long as it waits.
	// After yes, leave must be called when it is over.
	Enter(identity string) (leave func(), later time.Duration, ok bool)
	// Look is Enter for what probes ask, which no crowd of other requests may
	// keep away.
	Look(identity string) (leave func(), later time.Duration, ok bool)
	// Renew is for a renewal, which no crowd of other requests may keep away.
	Renew(identity string) (later time.Duration, ok bool)
	// Admit is for what comes on a session's stream: its open, an acquire.
	Admit(identity string) (later time.Duration, ok bool)
}

// identity is whose call it is.
func (s *API) identity(ctx context.Context) (string, error) {
	if s.cfg.Identity != nil {
		if identity, ok := s.cfg.Identity(ctx); ok {
			return identity, nil
		}
	}
	return "", s.refusal(errNoPeer, changes)
}

// enter counts a request in, or refuses it.
func (s *API) enter(ctx context.Context) (leave func(), err error) {
	return s.in(ctx, Limiter.Enter)
}

// look is enter for what probes ask.
func (s *API) look(ctx context.Context) (leave func(), err error) {
	return s.in(ctx, Limiter.Look)
}

func (s *API) in(ctx context.Context, enter func(Limiter, string) (func(), time.Duration, bool)) (leave func(), err error) {
	if s.cfg.Limiter == nil {
		return func() {}, nil
	}
	identity, err := s.identity(ctx)
	if err != nil {
		return nil, err
	}
	leave, later, ok := enter(s.cfg.Limiter, identity)
	if !ok {
		return nil, limited("requests of "+identity, later)
	}
	return leave, nil
}

func (s *API) admitRenewal(identity string) error {
	if s.cfg.Limiter == nil {
		return nil
	}
	if later, ok := s.cfg.Limiter.Renew(identity); !ok {
		return limited("renewals of "+identity, later)
	}
	return nil
}
