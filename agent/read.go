package agent

import (
	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link/linkpb"
)

func filter(q *linkpb.ListLocks) fsm.Filter {
	return fsm.Filter{
		Prefix: q.Prefix, Pattern: q.Pattern, Owner: q.Owner, Contested: q.Contested,
		Metadata: q.Metadata, After: q.After, Limit: int(q.Limit),
	}
}

func sessionFilter(q *linkpb.ListSessions) fsm.SessionFilter {
	f := fsm.SessionFilter{Agent: q.Agent, NotIncarnation: q.NotIncarnation, Limit: int(q.Limit)}
	if len(q.After) == 16 {
		after := fsm.ID(q.After)
		f.After = &after
	}
	return f
}

func sessionInfo(i fsm.SessionInfo) *linkpb.SessionInfo {
	out := &linkpb.SessionInfo{
		Session: i.ID[:], Attachment: i.Attachment, Incarnation: i.Incarnation, LeaseOnExit: i.LeaseOnExit,
	}
	for _, p := range i.Processes {
		out.Processes = append(out.Processes, &command.Process{
			Pid: p.PID, StartTicks: p.StartTicks, BootId: p.BootID, PidNamespace: p.PIDNamespace,
			InitialNamespace: p.InitialNamespace, PidfdInode: p.PidfdInode, Id: p.ID,
		})
	}
	return out
}

func lockInfo(i fsm.LockInfo) *linkpb.LockInfo {
	return &linkpb.LockInfo{
		Lock: i.Lock, Holder: i.Holder, Revoked: i.Revoked, Waiters: i.Waiters,
		Metadata: i.Metadata, TtlNanos: i.TTLNanos,
	}
}
