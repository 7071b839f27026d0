package consensus

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/internal/mutant"
)

// Probe returns nil when raft's main loop, the state machine and the proposer
// have each answered: what goes on by itself for as long as this node does
// anything at all. It needs no quorum and writes nothing: a voter that is alone
// answers. A log store that hangs is noticed as soon as raft writes to it.
//
// It waits for as long as ctx lets it, and then tells which of them did not
// answer. What it started then waits on, until the answer or Close: one Probe
// at a time, please. ErrClosed: the node is closed, or its store has failed.
func (n *Node) Probe(ctx context.Context) error {
	for _, part := range []struct {
		name string
		ask  func(context.Context) error
	}{
		{"raft's main loop", n.probeLoop},
		{"the state machine", n.probeMachine},
		{"the proposer", n.probeProposer},
	} {
		if err := part.ask(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// probeLoop asks the main loop whether this node leads. Whatever it answers, it
// goes round: followers and candidates say no at once, a leader yes by its
// followers' next answers, and one that they left no, when its lease is over.
func (n *Node) probeLoop(ctx context.Context) error {
	if mutant.On("probe-loop") {
		return nil
	}
	return n.probing(ctx, func() error {
		f := n.raft.VerifyLeader()
		abandonable(f, n.shut)
		if err := f.Error(); errors.Is(err, raft.ErrRaftShutdown) {
			return ErrClosed
		}
		return nil
	})
}

// probeMachine waits for the command that is being applied.
func (n *Node) probeMachine(ctx context.Context) error {
	if mutant.On("probe-machine") {
		return nil
	}
	return n.probing(ctx, func() error {
		n.machine.mu.Lock()
		defer n.machine.mu.Unlock()
		return nil
	})
}

// probing runs what cannot be interrupted.
func (n *Node) probing(ctx context.Context, ask func() error) error {
	answer := make(chan error, 1)
	if !n.spawn(func() { answer <- ask() }) {
		return ErrClosed
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// probeProposer waits for its next turn, which is at most a round away: rounds
// have a bound (ApplyBound).
func (n *Node) probeProposer(ctx context.Context) error {
	select {
	case n.turns <- struct{}{}:
		return nil
	case <-n.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// turned answers a probe, if one waits. The proposer calls it at every turn of
// its loops that does not wait for one anyway.
func (n *Node) turned() {
	select {
	case <-n.turns:
	default:
	}
}
