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

// tellLeases adds what is left until D of the sessions that hold the locks read.
// Nobody but the leader knows, so a stale read has none; what ended since it was
// read neither.
func (d *leading) tellLeases(a *linkpb.QueryAnswer) {
	if a.Stale {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock()
	for _, l := range a.Locks {
		if len(l.GetHolder().GetSession()) != 16 {
			continue
		}
		if deadline, ok := d.table.Deadline(fsm.ID(l.Holder.Session)); ok {
			left := uint64(max(deadline-now, 0))
			l.LeaseLeftNanos = &left
		}
	}
}
