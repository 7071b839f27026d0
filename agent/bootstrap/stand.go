package bootstrap

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/raftlock/raftlock/internal/mutant"
)

// attempt is what a founder remembers of the list it stands with. It is lost in
// a restart, and so are the promises it counted: they are asked for again.
type attempt struct {
	clusterID string
	// giveUp is when patience ends, yield when a rival gets its way; zero: never.
	giveUp, yield time.Time
}

// idle is the turn of an agent that is bound to nothing: it follows a cluster,
// or stands, or waits for a lower-named agent to stand.
func (b *Bootstrap) idle(ctx context.Context, v sight) time.Duration {
	if copies := v.copied(); len(copies) > 0 && b.loud("copied") {
		b.log.Error("two agents have one server id: a data directory was copied; empty one of them", "servers", strings.Join(copies, " "))
	}
	switch len(v.clusters) {
	case 0:
		return b.consider(v)
	case 1:
		b.follow(ctx, v.clusters[0], v)
	default:
		// It would be a guess; report says so loudly.
		b.remark("sees more than one cluster and joins neither", v.clusters...)
	}
	return b.cfg.Round
}

// consider stands if it is this agent's turn, else says when to look again.
func (b *Bootstrap) consider(v sight) time.Duration {
	now := time.Now()
	p := b.pick(v, now)
	if p.why != "" {
		b.remark(p.why, p.of...)
		b.detail(p.detail)
		return p.wait
	}
	if due := later(b.stillSince.Add(b.cfg.Still), b.notBefore); now.Before(due) {
		b.remark("waits for its view to be still")
		return due.Sub(now)
	}
	id, err := NewServerID(b.cfg.Rand)
	if err != nil {
		b.log.Error("no randomness for a cluster id", "error", err)
		return b.cfg.Loud
	}
	own := &list{ClusterID: id, Founder: b.cfg.Name, Members: p.list}
	stood, _ := b.update(func(r *record) bool {
		if r.Cluster != "" || r.Promise != nil {
			return false
		}
		// List and own promise in one write.
		r.Own, r.Promise = own, own
		return true
	})
	if stood {
		b.log.Info("stands as founder", "list", id, "members", names(p.list))
	}
	return 0
}

// choice is a list to stand with, or why there is none.
type choice struct {
	list []peer
	why  string
	// detail goes between the two, for Status.
	detail string
	of     []string
	wait   time.Duration
}

// pick chooses the list: this agent and the lowest-named others.
func (b *Bootstrap) pick(v sight, now time.Time) choice {
	if b.cfg.Forwarder || !b.allowed(b.cfg.Name) {
		return choice{why: "waits for a cluster: it may not vote", wait: b.cfg.Loud}
	}
	if len(v.candidates) < b.cfg.Expect {
		detail := fmt.Sprintf(", %d of %d that may vote are here:", len(v.candidates), b.cfg.Expect)
		return choice{why: "waits for more agents", detail: detail, of: names(v.candidates), wait: b.cfg.Loud}
	}
	if lowest := v.candidates[0]; lowest.Name != b.cfg.Name {
		return choice{why: "waits for the lowest-named to stand", of: []string{lowest.Name}, wait: b.cfg.Loud}
	}
	list, wait := make([]peer, 0, b.cfg.Expect), b.cfg.Loud
	for _, p := range v.candidates {
		if until := b.shunned[p.ServerID]; now.Before(until) {
			wait = min(wait, until.Sub(now))
			continue
		}
		if delete(b.shunned, p.ServerID); len(list) < b.cfg.Expect {
			list = append(list, p)
		}
	}
	if len(list) < b.cfg.Expect {
		return choice{why: "waits before it asks again who did not promise", of: names(list), wait: wait}
	}
	return choice{list: list}
}

// stand is a founder's turn: one round of asking for promises.
//
// Promises are not added up over rounds: all must say yes in one. That costs
// nothing when all are well, and keeps a promise that the operator made an
// agent forget from being counted.
func (b *Bootstrap) stand(ctx context.Context, l *list, v sight) time.Duration {
	if b.attempt.clusterID != l.ClusterID {
		b.rivalHeard("")
		b.attempt = attempt{clusterID: l.ClusterID, giveUp: time.Now().Add(b.cfg.Patience + b.jitter(b.cfg.Patience/2))}
	}
	if why := b.unfit(l, v); why != "" {
		b.abandon(ctx, l, v, why)
		return 0
	}
	others := v.addressed(l.without(b.cfg.ServerID))
	t := b.tally(b.askAll(ctx, others, promiseMessage(l)))
	if ctx.Err() != nil {
		return 0
	}
	enough := t.yes == len(others)
	if mutant.On("boot-all-promises") {
		enough = 1+t.yes > len(l.Members)/2
	}
	if enough {
		b.complete(ctx, l)
		return 0
	}
	return b.incomplete(ctx, l, v, t)
}

// unfit says why a list must not stand any more, whoever promises. It may be
// one of before a restart with another configuration.
func (b *Bootstrap) unfit(l *list, v sight) string {
	self := l.byName(b.cfg.Name)
	switch {
	case len(v.clusters) > 0:
		return "a cluster is in view"
	case b.cfg.Forwarder, l.Founder != b.cfg.Name, self == nil, len(l.Members) != b.cfg.Expect:
		return "the configuration changed"
	}
	for _, p := range l.Members {
		if !b.allowed(p.Name) {
			return "the configuration changed"
		}
	}
	return ""
}

// tally is what one round brought.
type tally struct {
	yes int
	// without are those that did not promise; why says it for people.
	without []peer
	why     []string
	// rival is a lower-named founder that one of them is bound to.
	rival string
	// cluster is one that one of them knows of.
	cluster string
}

func (b *Bootstrap) tally(replies []reply) tally {
	var t tally
	for _, r := range replies {
		if r.err == nil && r.answer.GetOk() {
			t.yes++
			continue
		}
		t.without = append(t.without, r.peer)
		t.why = append(t.why, r.peer.Name+": "+refusal(r))
		if r.err != nil {
			continue
		}
		if f := r.answer.GetFounder(); r.answer.GetPromisedTo() != "" && f < b.cfg.Name {
			t.rival = f
		}
		if c := r.answer.GetMemberOf(); c != "" {
			t.cluster = c
		}
	}
	return t
}

func refusal(r reply) string {
	switch {
	case r.err != nil:
		return r.err.Error()
	case r.answer.GetMemberOf() != "":
		return "knows cluster " + r.answer.GetMemberOf()
	case r.answer.GetPromisedTo() != "":
		return "promised to " + r.answer.GetFounder() + ", list " + r.answer.GetPromisedTo()
	}
	return "not eligible, or configured otherwise"
}

// incomplete decides whether a list that lacks promises stands on.
func (b *Bootstrap) incomplete(ctx context.Context, l *list, v sight, t tally) time.Duration {
	b.remark("stands as founder and lacks promises", t.why...)
	now := time.Now()
	if b.rivalled(t.rival) && b.attempt.yield.IsZero() {
		b.attempt.yield = now.Add(b.jitter(b.cfg.Round))
	}
	switch {
	case t.cluster != "":
		// Its members are out of sight for now: do not try at once again.
		b.abandon(ctx, l, v, "a listed agent knows a cluster")
		b.notBefore = time.Now().Add(b.cfg.Shun)
		return 0
	case now.After(b.attempt.giveUp):
		b.abandon(ctx, l, v, "not all have promised", t.without...)
		return 0
	case !b.attempt.yield.IsZero() && !now.Before(b.attempt.yield):
		b.abandon(ctx, l, v, "a lower-named founder stands", t.without...)
		return 0
	}
	if b.loud("incomplete") {
		b.log.Warn("list lacks promises", "list", l.ClusterID, "lacks", strings.Join(t.why, "; "))
	}
	wait := b.cfg.Round
	if !b.attempt.yield.IsZero() {
		wait = min(wait, b.attempt.yield.Sub(now))
	}
	return wait
}

// rivalled reports whether a lower-named founder was heard of.
func (b *Bootstrap) rivalled(heard string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return heard != "" || b.rival != ""
}

// complete makes the list the cluster. After this write nothing can undo it.
func (b *Bootstrap) complete(ctx context.Context, l *list) {
	if v := b.sight(); len(v.clusters) > 0 {
		b.abandon(ctx, l, v, "a cluster is in view")
		return
	}
	done, _ := b.update(func(r *record) bool {
		if r.standing() == nil || r.Own.ClusterID != l.ClusterID {
			return false
		}
		r.Cluster, r.Listed = l.ClusterID, true
		return true
	})
	if done {
		b.log.Info("every promise is there", "cluster", l.ClusterID, "members", names(l.Members))
	}
}

// abandon gives the promises back. The order is the point: once a single agent
// is free to promise elsewhere, no crash may bring the list back to life.
func (b *Bootstrap) abandon(ctx context.Context, l *list, v sight, why string, shun ...peer) {
	if mutant.On("boot-abandon-durable") {
		b.giveBack(ctx, l, v)
	}
	done, err := b.update(func(r *record) bool {
		if r.standing() == nil || r.Own.ClusterID != l.ClusterID {
			return false
		}
		r.Own, r.Promise = nil, nil
		return true
	})
	if err != nil || !done {
		return
	}
	b.log.Info("list abandoned", "list", l.ClusterID, "why", why)
	for _, p := range shun {
		b.shunned[p.ServerID] = time.Now().Add(b.cfg.Shun)
	}
	b.notBefore = time.Now().Add(b.jitter(b.cfg.Round))
	if !mutant.On("boot-abandon-durable") {
		b.giveBack(ctx, l, v)
	}
}

// giveBack tells the listed once. Who does not hear it asks by itself.
func (b *Bootstrap) giveBack(ctx context.Context, l *list, v sight) {
	for _, r := range b.askAll(ctx, v.addressed(l.without(b.cfg.ServerID)), abandonMessage(l.ClusterID)) {
		if r.err != nil || r.answer == nil {
			b.log.Debug("was not told that the list is abandoned, will ask", "agent", r.peer.Name, "error", r.err)
		}
	}
}

func names(peers []peer) []string {
	out := make([]string, len(peers))
	for i, p := range peers {
		out[i] = p.Name
	}
	return out
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
