package bootstrap

import (
	"context"
	"errors"
	"time"

	"github.com/raftlock/raftlock/link/linkpb"
)

// follow joins the cluster in view, if one of its members confirms it: a view
// may be stale, and to belong is for ever.
func (b *Bootstrap) follow(ctx context.Context, clusterID string, v sight) {
	b.remark("sees a cluster and asks its members", clusterID)
	if b.exists(ctx, clusterID, v) {
		b.belong(clusterID)
		return
	}
	if b.loud("unconfirmed") && ctx.Err() == nil {
		b.log.Warn("no member of the cluster in view answers", "cluster", clusterID)
	}
}

// exists asks those in view that claim to belong, one after another.
func (b *Bootstrap) exists(ctx context.Context, clusterID string, v sight) bool {
	for _, p := range v.of(clusterID) {
		if b.isSelf(Member{Name: p.Name, ServerID: p.ServerID, Address: p.Address}) {
			continue
		}
		a, err := b.ask(ctx, p, inquireMessage(clusterID, ""))
		if err == nil && followed(a) {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return false
}

// await is the turn of an agent that is promised to another's list. Start or
// Abandon may be lost or the founder dead, so it asks: the founder what became
// of the list, and, where the founder is silent, members of the cluster.
func (b *Bootstrap) await(ctx context.Context, l *list, v sight) time.Duration {
	b.remark("is promised and waits for the founder", l.Founder)
	pause := b.cfg.Round + b.jitter(b.cfg.Round)
	founder := l.byName(l.Founder)
	if founder == nil {
		b.log.Error("promised to a list without its founder", "list", l.ClusterID)
		return b.cfg.Loud
	}
	a, err := b.ask(ctx, v.now(*founder), inquireMessage(l.ClusterID, founder.ServerID))
	if err == nil {
		b.heard(l, a)
		return pause
	}
	if b.exists(ctx, l.ClusterID, v) {
		b.belong(l.ClusterID)
		return 0
	}
	b.complain(l, *founder, err)
	return pause
}

// heard acts on what the founder says.
func (b *Bootstrap) heard(l *list, a *linkpb.FoundingAnswer) {
	b.founderHeard()
	switch a.GetStanding() {
	case linkpb.FoundingAnswer_STANDING_COMPLETE:
		b.belong(l.ClusterID)
	case linkpb.FoundingAnswer_STANDING_ABANDONED:
		b.writing.lock()
		defer b.writing.unlock()
		_ = b.freeLocked(l.ClusterID) // Run sees the error.
	}
}

// complain tells people that this agent cannot help itself.
func (b *Bootstrap) complain(l *list, founder peer, err error) {
	since := b.silentSince()
	if time.Since(since) < b.cfg.Loud || !b.loud("silent") {
		return
	}
	hint := "start it again; only if its data is lost for ever, run raftlock admin forget-founder with the list at each agent that waits"
	if errors.Is(err, errOtherServer) {
		hint = "another server has its address: if its data directory was emptied, run raftlock admin forget-founder with the list at each agent that waits"
	}
	b.log.Warn("promised to a founder that does not answer", "founder", founder.Name, "address", founder.Address,
		"list", l.ClusterID, "since", since, "error", err, "hint", hint)
}

// silentSince is when the founder was last heard, or this agent began to wait.
func (b *Bootstrap) silentSince() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return later(b.founderSeen, b.began)
}

// followed reports whether an answer says that the asked belongs to the cluster
// it was asked about.
func followed(a *linkpb.FoundingAnswer) bool {
	return a.GetStanding() == linkpb.FoundingAnswer_STANDING_COMPLETE
}
