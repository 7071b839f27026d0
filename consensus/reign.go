package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
)

// retryPause is the wait before an Establish or a refused entry is tried again.
const retryPause = 20 * time.Millisecond

// lead runs one leadership after another. It is the only goroutine that calls
// Leader.
func (n *Node) lead() {
	var over uint64 // the term given up; this node leads in it no more
	for {
		n.turned()
		term, ok := n.leading()
		if ok && term != over {
			if n.reign(term) {
				over = term
			}
			// Lost or void while raft still says that we lead: not in a hot loop.
			if n.pause(retryPause) {
				continue
			}
			return
		}
		select {
		case <-n.closing:
			return
		case <-n.poke:
		case <-n.turns:
		}
	}
}

// leading returns the term this node leads in. Term, state, term: the term only
// rises, so the node led in it when the state was read.
func (n *Node) leading() (uint64, bool) {
	term := n.raft.CurrentTerm()
	return term, n.leads(term)
}

func (n *Node) leads(term uint64) bool {
	// A failed store ends raft's main loop without a change of its state.
	return n.stores.failed() == nil && n.raft.State() == raft.Leader && n.raft.CurrentTerm() == term
}

// pause waits; false when the node closes.
func (n *Node) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-n.closing:
		return false
	}
}

// reign leads in a term until that ends. True: this node gave the term up and
// must not lead in it again.
func (n *Node) reign(term uint64) (gaveUp bool) {
	l := newLeadership(n, term)
	out, err := n.apply(l, []*command.Command{n.establish()})
	if err == nil && out.Results[0].GetCode() == command.Code_CODE_WRONG_CLUSTER {
		err = fmt.Errorf("%w: %s", ErrWrongCluster, out.Results[0].GetDetail())
		n.fatal(err)
	}
	if err != nil {
		l.end()
		return n.deposed(term, err)
	}
	n.log.Info("leadership begins", "term", term)
	n.machine.inspect(func(s *fsm.State) { n.cfg.Leader.Established(l, s) })
	n.current.Store(l)

	err = l.rounds()

	n.current.Store(nil)
	for _, q := range l.end() {
		q.Done(nil, ErrNotLeading)
	}
	n.cfg.Leader.Deposed(l)
	n.log.Info("leadership ends", "term", term, "reason", err)
	return n.deposed(term, err)
}

func (n *Node) establish() *command.Command {
	return &command.Command{Kind: &command.Command_Establish{Establish: &command.Establish{
		ClusterId: n.cfg.ClusterID,
		ServerId:  string(n.cfg.ServerID),
	}}}
}

// deposed looks after what ended the leadership. A leader that cannot commit
// keeps its followers quiet with heartbeats for ever (hashicorp/raft#503), so
// it must hand over or stop.
func (n *Node) deposed(term uint64, why error) (gaveUp bool) {
	if !errors.Is(why, errBound) {
		return errors.Is(why, ErrWrongCluster) || errors.Is(why, ErrTransferStuck)
	}
	if n.leads(term) {
		ctx, cancel := context.WithTimeout(context.Background(), n.cfg.HeartbeatTimeout+n.cfg.ElectionTimeout)
		defer cancel()
		err := n.Transfer(ctx, "", "")
		n.log.Warn("leader could not commit in time", "term", term, "bound", n.cfg.ApplyBound, "transfer", err)
	}
	if !n.stepsDown(term) {
		n.fatal(ErrStalled)
	}
	return true
}

// stepsDown reports whether the node leads no more. It waits for that: who was
// handed the leadership may lead already, and a leader that hears from nobody
// ends by itself, and either is heard of later than that the transfer failed.
func (n *Node) stepsDown(term uint64) bool {
	over := time.NewTimer(n.cfg.ElectionTimeout)
	defer over.Stop()
	again := time.NewTicker(n.cfg.ElectionTimeout / 50)
	defer again.Stop()
	for n.leads(term) {
		select {
		case <-over.C:
			return false
		case <-n.closing:
			return true
		case <-again.C:
		}
	}
	return true
}

// rounds makes one round after another until the leadership ends, and says why.
func (l *Leadership) rounds() error {
	n := l.node
	for {
		select {
		case <-n.closing:
			return ErrClosed
		default:
		}
		n.turned()
		if !n.leads(l.term) {
			return ErrNotLeading
		}
		if !l.linger() {
			continue
		}
		if batch := l.take(); len(batch) > 0 {
			begin := time.Now() // the one of timers, which bound waiting
			if err := l.round(batch); err != nil {
				return err
			}
			l.gather.rounded(len(batch), time.Since(begin))
			continue
		}
		select {
		case <-l.wake:
		case <-n.poke:
		case <-n.turns:
		case <-n.closing:
		}
	}
}
