package bootstrap

import (
	"context"
	"slices"
	"strings"
	"time"
)

// startPauseMax bounds the growing pause between the founder's attempts to tell
// the others. They ask by themselves as well.
const startPauseMax = 30 * time.Second

// Watch does what is left once Run has decided: a founder tells the others to
// start until each has acknowledged, which it remembers; and any second cluster
// id in view is reported. It returns when ctx ends, with its error, or with
// ErrStore, after which the agent must stop.
func (b *Bootstrap) Watch(ctx context.Context) error {
	told := make(map[string]bool)
	var next time.Time
	pause := b.cfg.Round
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		changed := b.cfg.View.Changed()
		rec, err := b.current()
		if err != nil {
			return err
		}
		v := b.look()
		b.report(v, rec.Cluster)
		wait := b.cfg.Loud
		if rec.founder() && rec.Founded && !rec.Told {
			if !time.Now().Before(next) {
				b.tell(ctx, rec.Own, v, told)
				next = time.Now().Add(pause + b.jitter(b.cfg.Round))
				pause = min(2*pause, startPauseMax)
			}
			wait = min(wait, time.Until(next))
		}
		b.pause(ctx, wait, changed)
	}
}

// tell sends Start to those of the list that have not acknowledged.
func (b *Bootstrap) tell(ctx context.Context, l *list, v sight, told map[string]bool) {
	others := l.without(b.cfg.ServerID)
	due := slices.DeleteFunc(slices.Clone(others), func(p peer) bool { return told[p.ServerID] })
	for _, r := range b.askAll(ctx, v.addressed(due), startMessage(l.ClusterID)) {
		switch {
		case r.err != nil:
			b.log.Debug("not told to start yet", "agent", r.peer.Name, "error", r.err)
		case r.answer.GetOk():
			told[r.peer.ServerID] = true
		case b.loud("refused " + r.peer.Name):
			b.log.Error("a listed agent will not start", "agent", r.peer.Name, "answer", refusal(r))
		}
	}
	if len(told) < len(others) {
		return
	}
	// A failed save shows in the caller's next look.
	_, _ = b.update(func(r *record) bool { r.Told = true; return true })
	b.log.Info("every listed agent starts", "cluster", l.ClusterID)
}

// report is loud about two clusters in one pool. own may be empty.
func (b *Bootstrap) report(v sight, own string) {
	ids := v.clusters
	if own != "" && !slices.Contains(ids, own) {
		ids = append(slices.Clone(ids), own)
	}
	b.mu.Lock()
	b.note.clusters = ids
	b.mu.Unlock()
	if len(ids) > 1 && b.loud("clusters") {
		b.log.Error("more than one cluster in one gossip pool", "clusters", strings.Join(ids, " "), "own", own)
	}
}
