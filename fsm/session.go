package fsm

import (
	"bytes"

	"github.com/raftlock/raftlock/fsm/command"
)

// session is the unit of liveness. Views share it: State.touch makes a copy
// when it is first changed after a view was taken.
type session struct {
	id          ID
	attachment  uint64
	incarnation uint64
	agent       string
	ttl         uint64
	identity    string
	secretHash  [command.SecretHashBytes]byte
	leaseOnExit bool
	// processes is replaced, never changed in place.
	processes []Process
	// mark: every sequence up to it is acknowledged.
	mark  uint64
	plain *plain

	// Counts of uses, by kind. singles counts acknowledged sequences above the
	// mark: useAcked, and claims with the acked flag.
	waits, holds, answers, singles uint32

	// Not state: the hash counted for it, the view it may be changed in, and
	// whether this entry changed or ended it.
	hash  uint64
	epoch uint64
	dirty bool
	dead  bool
}

// plain is what an implicit session has beside: (owner, lock) names it, next
// numbers its claims.
type plain struct {
	owner, lock string
	next        uint64
}

func sessionLess(a, b *session) bool { return bytes.Compare(a.id[:], b.id[:]) < 0 }

func (x *session) claims() uint32 { return x.waits + x.holds }

// Process is what a kernel said of a process; see command.Process.
type Process struct {
	PID              int32
	StartTicks       uint64
	BootID           string
	PIDNamespace     uint64
	InitialNamespace bool
	// PidfdInode names it in every PID namespace until the next boot; 0: unknown.
	PidfdInode uint64
	// ID is unique in its session, chosen by the agent.
	ID uint64
	// Opener: it opened the session, and nobody else may resume it.
	Opener bool
}

// SessionInfo describes one session. Its slices must not be changed.
type SessionInfo struct {
	ID          ID
	Attachment  uint64
	Incarnation uint64
	Agent       string
	Identity    string
	TTLNanos    uint64
	SecretHash  [command.SecretHashBytes]byte
	LeaseOnExit bool
	Processes   []Process
	// Plain: the implicit session of (Owner, Lock); attached to nobody.
	Plain bool
	Owner string
	Lock  string
	// Mark is the low-water mark of acknowledged sequences.
	Mark uint64
	// Holds and Waits count its claims, Answers what it has not acknowledged.
	Holds, Waits, Answers int
}

// owner is whose the session is, for people: of plain requests the name their
// caller chose, else the identity that the agent told.
func (x *session) owner() string {
	if x.plain != nil {
		return x.plain.owner
	}
	return x.identity
}

func (x *session) info() SessionInfo {
	i := SessionInfo{
		ID: x.id, Attachment: x.attachment, Incarnation: x.incarnation, Agent: x.agent,
		Identity: x.identity, TTLNanos: x.ttl, SecretHash: x.secretHash,
		LeaseOnExit: x.leaseOnExit, Processes: x.processes, Mark: x.mark,
		Holds: int(x.holds), Waits: int(x.waits), Answers: int(x.answers),
	}
	if x.plain != nil {
		i.Plain, i.Owner, i.Lock = true, x.plain.owner, x.plain.lock
	}
	return i
}

func processOf(p *command.Process) Process {
	return Process{
		PID: p.GetPid(), StartTicks: p.GetStartTicks(), BootID: p.GetBootId(),
		PIDNamespace: p.GetPidNamespace(), InitialNamespace: p.GetInitialNamespace(),
		PidfdInode: p.GetPidfdInode(), ID: p.GetId(),
	}
}

// same says whether p and q surely are one process, whatever ids agents gave
// it, and whichever PID namespace they saw it from.
func (p Process) same(q Process) bool {
	if p.BootID == "" || p.BootID != q.BootID {
		return false
	}
	if p.PidfdInode != 0 && q.PidfdInode != 0 {
		return p.PidfdInode == q.PidfdInode
	}
	return p.PID != 0 && p.StartTicks != 0 &&
		p.PID == q.PID && p.StartTicks == q.StartTicks && p.PIDNamespace == q.PIDNamespace
}
