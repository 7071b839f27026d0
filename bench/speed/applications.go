package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// applications are the sessions, or for reads the clients, of one measurement.
// Worker w belongs to the w/each-th.
type applications struct {
	clients  []*raftlock.Client
	sessions []*raftlock.Session
	each     int
	relay    baton
}

// openApplications opens what the workers of a workload share, spread over the
// agents.
func openApplications(ctx context.Context, at []*agent, w workload, workers int) (_ *applications, err error) {
	apps := &applications{each: workersPerSession}
	if w == handOffs {
		apps.each = 1 // strangers contend, not one application with itself
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, apps.close())
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, sessionBound)
	defer cancel()
	for i := range (workers + apps.each - 1) / apps.each {
		socket := at[i%len(at)].socket
		c, err := raftlock.Dial(ctx, raftlock.WithSocket(socket))
		if err != nil {
			return nil, err
		}
		apps.clients = append(apps.clients, c)
		if w == reads {
			continue
		}
		s, err := c.Session(ctx)
		if err != nil {
			return nil, err
		}
		apps.sessions = append(apps.sessions, s)
	}
	return apps, nil
}

func (a *applications) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), sessionBound) // a cleanup, bounded
	defer cancel()
	var errs []error
	for _, s := range a.sessions {
		errs = append(errs, s.Close(ctx))
	}
	for _, c := range a.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (a *applications) step(w workload) func(context.Context, int) (time.Duration, error) {
	switch w {
	case handOffs:
		return a.contend
	case reads:
		return timed(a.read)
	}
	return timed(a.pair)
}

func lockName(worker int) string { return fmt.Sprintf("speed/%d", worker) }

func (a *applications) pair(ctx context.Context, worker int) error {
	l, err := a.sessions[worker/a.each].Lock(ctx, lockName(worker))
	if err != nil {
		return err
	}
	return l.Unlock(ctx)
}

func (a *applications) contend(ctx context.Context, worker int) (time.Duration, error) {
	l, err := a.sessions[worker/a.each].Lock(ctx, "speed/shared")
	if err != nil {
		return 0, err
	}
	took := a.relay.taken()
	a.relay.given()
	return took, l.Unlock(ctx)
}

func (a *applications) read(ctx context.Context, worker int) error {
	_, err := a.clients[worker/a.each].Get(ctx, lockName(worker))
	return err
}
