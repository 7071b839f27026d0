package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/raftlock/raftlock/agent/session"
	"github.com/raftlock/raftlock/link/linkpb"
)

const (
	// staleTimeout bounds the search for a replica that answers.
	staleTimeout = 3 * time.Second
	// hedge is how long one is waited for before the next is asked too.
	hedge = 150 * time.Millisecond
	// readsForOthersMax bounds the reads of other agents that are under way here.
	readsForOthersMax = 4
)

// readStale reads from the replica here, else from that of any agent that has
// one. No leader is needed for it.
func (a *Agent) readStale(ctx context.Context, q *linkpb.Query) (*linkpb.QueryAnswer, error) {
	if node := a.Node(); node != nil {
		return answerQuery(ctx, node, q), nil
	}
	ctx, cancel := context.WithTimeout(ctx, staleTimeout)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	answers := make(chan *linkpb.QueryAnswer, askedMax) // one each: nobody waits to tell
	places, under := a.voters(), 0
	next := time.NewTimer(0)
	defer next.Stop()
	for len(places) > 0 || under > 0 {
		select {
		case <-next.C:
			if len(places) > 0 {
				under++
				place := places[0]
				places = places[1:]
				all.Go(func() { answers <- a.readAt(ctx, place, q) })
				next.Reset(hedge)
			}
		case r := <-answers:
			under--
			if r.GetOk() {
				return r, nil
			}
			next.Reset(0)
		case <-ctx.Done():
			return nil, errors.Join(session.ErrNotSent, session.ErrNoQuorum, ctx.Err())
		}
	}
	return nil, errors.Join(session.ErrNotSent, session.ErrNoQuorum)
}

// readAt asks one; nil when it does not answer, or is of another cluster.
func (a *Agent) readAt(ctx context.Context, place string, q *linkpb.Query) *linkpb.QueryAnswer {
	r, err := a.cfg.Network.Ask(ctx, place, &linkpb.Question{
		From: a.cfg.Name, Question: &linkpb.Question_Read{Read: q},
	})
	if err != nil || r.ClusterId != a.ClusterID() {
		return nil
	}
	return r.GetRead()
}

// readForOthers answers agents without a replica. It neither asks for nor gives
// proof of anything, so it is stale whatever was asked.
func (a *Agent) readForOthers(ctx context.Context, q *linkpb.Query) *linkpb.QueryAnswer {
	node := a.Node()
	if node == nil {
		return &linkpb.QueryAnswer{Detail: "no replica here"}
	}
	select {
	case a.others <- struct{}{}:
		defer func() { <-a.others }()
	default:
		return &linkpb.QueryAnswer{Detail: "too many reads under way"}
	}
	return answerQuery(ctx, node, &linkpb.Query{Stale: true, Query: q.Query})
}
