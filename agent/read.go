package agent

import (
	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/link/linkpb"
)

func filter(q *linkpb.ListLocks) fsm.Filter {
	return fsm.Filter{
		Prefix: q.Prefix, Pattern: q.Pattern, Owner: q.Owner, Contested: q.Contested,
		Metadata: q.Metadata, After: q.After, Limit: int(q.Limit),
	}
}

func lockInfo(i fsm.LockInfo) *linkpb.LockInfo {
	return &linkpb.LockInfo{
		Lock: i.Lock, Holder: i.Holder, Revoked: i.Revoked, Waiters: i.Waiters,
		Metadata: i.Metadata, TtlNanos: i.TTLNanos,
	}
}
