package daemon

import (
	"context"
	"fmt"
	"time"
)

const (
	// watchdogFeeds is how often the watchdog is fed in its interval where all
	// is well: one late feed is no reason for a restart.
	watchdogFeeds = 3
	// statusInterval is how often the status that a person reads may change.
	statusInterval = time.Second
)

// guard feeds the watchdog, each time after every part of the agent that can
// hang has answered (agent.Agent.Progress). There is no other feed: a part
// that hangs stops it, and the service manager restarts the agent.
func (d *Daemon) guard(ctx context.Context) error {
	if d.opt.Watchdog == 0 || d.opt.Notify == nil {
		<-ctx.Done()
		return nil
	}
	return feed(ctx, d.opt.Watchdog/watchdogFeeds, d.agent.Progress, func() { d.tell("WATCHDOG=1") }, func(err error) {
		d.log.Error("no progress: the watchdog is not fed", "error", err)
	})
}

// feed asks once an interval, and feeds after each answer. A question has an
// interval's time: what comes later is asked for anew, in time for the next.
func feed(ctx context.Context, every time.Duration, progress func(context.Context) error, fed func(), failed func(error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		asked, cancel := context.WithTimeout(ctx, every)
		err := progress(asked)
		cancel()
		switch {
		case err == nil:
			fed()
		case ctx.Err() == nil:
			failed(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// show keeps the service manager's status line at what the agent is and does.
func (d *Daemon) show(ctx context.Context) error {
	if d.opt.Notify == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	last := ""
	for {
		if now := d.doing(); now != last {
			d.tell("STATUS=" + now)
			last = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// doing says in a line what this agent is to its cluster and its host.
func (d *Daemon) doing() string {
	sessions, _, _ := d.agent.Sessions().Count()
	served := fmt.Sprintf("%d sessions", sessions)
	if sessions == 1 {
		served = "1 session"
	}
	return d.standing() + ", " + served
}

func (d *Daemon) standing() string {
	if d.agent.ClusterID() == "" {
		return "of no cluster yet: " + d.agent.Bootstrap().Status().Doing
	}
	if d.agent.Leading() {
		return "leader"
	}
	role := "forwarder"
	if d.agent.Node() != nil {
		role = "follower"
	}
	id, _, _, linked := d.agent.LeaderLink()
	if !linked {
		return role + " without a leader"
	}
	return role + " of " + d.nameOf(id)
}

// nameOf is an agent's name by its server id, as far as gossip knows.
func (d *Daemon) nameOf(serverID string) string {
	for _, m := range d.pool.All() {
		if m.ServerID == serverID {
			return m.Name
		}
	}
	return serverID
}
