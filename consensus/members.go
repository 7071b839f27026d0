package consensus

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Changes of the configuration and transfers are made by the leader, one at a
// time. They are not fenced: who decided on one in an earlier leadership must
// look again. All wait until ctx or ApplyBound ends; after ErrUnknown the change
// may still come, so read Servers before deciding anew.

// AddNonvoter adds a standby, or changes the address of one. It does not demote
// a voter.
func (n *Node) AddNonvoter(ctx context.Context, id ServerID, addr string) error {
	return n.change(ctx, "add non-voter", id, func() raft.Future {
		return n.raft.AddNonvoter(id, raft.ServerAddress(addr), 0, n.cfg.ApplyBound)
	})
}

// AddVoter makes a server a voter, at once: raft checks neither that it exists
// nor that it has caught up. The caller does both first.
func (n *Node) AddVoter(ctx context.Context, id ServerID, addr string) error {
	return n.change(ctx, "add voter", id, func() raft.Future {
		return n.raft.AddVoter(id, raft.ServerAddress(addr), 0, n.cfg.ApplyBound)
	})
}

// Remove takes a server out of the configuration. A leader transfers first.
func (n *Node) Remove(ctx context.Context, id ServerID) error {
	return n.change(ctx, "remove", id, func() raft.Future { return n.raft.RemoveServer(id, 0, n.cfg.ApplyBound) })
}

// Transfer hands leadership to a voter, or with an empty id to whichever is
// most caught up. Proposals made meanwhile are kept; when it works they are
// answered ErrNotLeading or ErrUnknown like at any deposition.
func (n *Node) Transfer(ctx context.Context, id ServerID, addr string) error {
	return n.change(ctx, "transfer leadership", id, func() raft.Future {
		if id == "" {
			return n.raft.LeadershipTransfer()
		}
		return n.raft.LeadershipTransferToServer(id, raft.ServerAddress(addr))
	})
}

func (n *Node) change(ctx context.Context, what string, id ServerID, do func() raft.Future) error {
	err := n.await(ctx, do)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		err = ErrNotLeading
	case errors.Is(err, raft.ErrLeadershipLost):
		err = ErrUnknown
	}
	return fmt.Errorf("%s %s: %w", what, id, err)
}

// await runs a library call that answers by a future, which may be never.
func (n *Node) await(ctx context.Context, do func() raft.Future) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ApplyBound)
	defer cancel()
	answer := make(chan error, 1)
	stop := make(chan struct{})
	defer close(stop)
	if !n.spawn(func() {
		f := do()
		abandonable(f, stop)
		answer <- f.Error()
	}) {
		return ErrClosed
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ErrUnknown
	case <-n.closing:
		return ErrClosed
	}
}
