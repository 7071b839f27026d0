package consensus

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/internal/mutant"
)

// ErrLogConflicts goes to Fatal: the log contradicted a snapshot that a leader
// sent. What contradicts it was never committed and is dropped; raft remembers
// it in memory, so the agent has to start again, and then goes on by itself.
var ErrLogConflicts = errors.New("the log contradicted an installed snapshot and was cut; start again")

// dropConflicting deletes a log from a snapshot's last index on if its entry
// there is of another term: somebody else's entry was committed in its place,
// and what follows it was never committed either (Raft paper, figure 13, step
// 7). It reports whether it did.
//
// hashicorp/raft leaves out that step (#697, open): the leader's next entry then
// follows one that the follower does not have, so it sends the snapshot again,
// and again, for ever.
func dropConflicting(logs raft.LogStore, index, term uint64) (bool, error) {
	if mutant.On("log-conflict") {
		return false, nil
	}
	var at raft.Log
	switch err := logs.GetLog(index, &at); {
	case errors.Is(err, raft.ErrLogNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read the entry at a snapshot's index %d: %w", index, err)
	case at.Term == term:
		return false, nil
	}
	last, err := logs.LastIndex()
	if err == nil {
		err = logs.DeleteRange(index, last)
	}
	return err == nil, err
}

// mendLog does at the start what an agent that died over it left undone.
func mendLog(logs raft.LogStore, snapshots raft.SnapshotStore) error {
	kept, err := snapshots.List()
	if err != nil || len(kept) == 0 {
		return err
	}
	_, err = dropConflicting(logs, kept[0].Index, kept[0].Term)
	return err
}
