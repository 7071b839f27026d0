package fsm

import (
	"crypto/subtle"
	"slices"

	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

func (s *State) open(c *command.Command, o *command.Open) *command.Result {
	id := ID(c.Session)
	if x := s.session(id); x != nil {
		return s.reopen(x, c, o)
	}
	if s.identities[o.Identity] >= command.SessionsMax {
		return refuse(command.Code_CODE_LIMIT, "too many sessions of this identity: end some")
	}
	x := &session{
		id: id, agent: o.Agent.Name, incarnation: o.Agent.Incarnation, attachment: s.nextAttachment(),
		ttl: o.TtlNanos, identity: o.Identity, secretHash: [command.SecretHashBytes]byte(o.SecretHash),
		leaseOnExit: o.LeaseOnExit,
	}
	if o.Process != nil {
		x.processes = []Process{processOf(o.Process)}
		x.processes[0].Opener = true
	}
	s.begin(x)
	s.acknowledge(x, c.AckMark, c.AckAbove)
	s.emit(Event{
		Kind: EventOpened, Session: id, Attachment: x.attachment, Incarnation: x.incarnation, TTLNanos: x.ttl,
	})
	a := attachedAnswer(answerOpen, x)
	if s.use(x.id, c.Seq) != nil {
		return answerResult(x, a) // acknowledged its own sequence: wants no repetition
	}
	return s.cache(x, c.Seq, a)
}

// reopen answers the open of a session that lives: the answer of once for the
// sequence that opened it, EXISTS for any other.
func (s *State) reopen(x *session, c *command.Command, o *command.Open) *command.Result {
	if x.plain != nil {
		return refuse(command.Code_CODE_EXISTS, "plain requests use this id: draw another")
	}
	if !secretMatches(x, o.SecretHash) {
		return refuse(command.Code_CODE_WRONG_SECRET, "the session exists and has another secret")
	}
	if u := s.use(x.id, c.Seq); u != nil && u.kind == useAnswered && u.more.answer.kind == answerOpen {
		return answerResult(x, u.more.answer)
	}
	return refuse(command.Code_CODE_EXISTS, "the session exists: resume it")
}

func (s *State) resume(c *command.Command, r *command.Resume) *command.Result {
	x, no := s.authorised(c, r.SecretHash)
	if no != nil {
		return no
	}
	if r.Process != nil && !x.openedBy(processOf(r.Process)) && !mutant.On("fsm-resume-process") {
		return refuse(command.Code_CODE_WRONG_PROCESS, "only the process that opened a session can resume it: open a new one")
	}
	x = s.touch(x)
	s.acknowledge(x, c.AckMark, c.AckAbove)
	if again := s.repeated(x, c.Seq, answerResume); again != nil {
		return again
	}
	// Past AnswersMax a client must be able to come back, or it could never
	// learn and acknowledge the answers that fill its session.
	if no := full(x, command.AnswersResumeMax); no != nil {
		return no
	}
	e := Event{
		Kind: EventResumed, Session: x.id, TTLNanos: x.ttl,
		WasAttachment: x.attachment, WasIncarnation: x.incarnation,
	}
	x.attachment, x.incarnation, x.agent = s.nextAttachment(), r.Agent.Incarnation, r.Agent.Name
	e.Attachment, e.Incarnation = x.attachment, x.incarnation
	s.emit(e)
	return s.cache(x, c.Seq, attachedAnswer(answerResume, x))
}

// authorised finds a client's session and compares its secret.
func (s *State) authorised(c *command.Command, secretHash []byte) (*session, *command.Result) {
	x := s.session(ID(c.Session))
	if x == nil || x.plain != nil {
		return nil, refuse(command.Code_CODE_NO_SESSION, "no such session: open a new one")
	}
	if !secretMatches(x, secretHash) {
		return nil, refuse(command.Code_CODE_WRONG_SECRET, "the secret is not the one the session was opened with")
	}
	return x, nil
}

// openedBy says whether p surely is the process that opened the session. Of one
// that was opened without a word of who did, nobody is.
func (x *session) openedBy(p Process) bool {
	return slices.ContainsFunc(x.processes, func(q Process) bool { return q.Opener && p.same(q) })
}

func secretMatches(x *session, hash []byte) bool {
	return subtle.ConstantTimeCompare(x.secretHash[:], hash) == 1
}

// nextAttachment draws from one counter of the whole cluster: no number ever
// names two attachments, not even of sessions that were ended and opened anew.
func (s *State) nextAttachment() uint64 {
	s.attachments++
	return s.attachments
}

func attachedAnswer(kind answerKind, x *session) answer {
	return answer{
		kind: kind, code: command.Code_CODE_OK,
		attachment: x.attachment, incarnation: x.incarnation,
	}
}

func (s *State) setTTL(x *session, seq uint64, t *command.SetTTL) *command.Result {
	if again := s.repeated(x, seq, answerTTL); again != nil {
		return again
	}
	if no := full(x, command.AnswersMax); no != nil {
		return no
	}
	x.ttl = t.TtlNanos
	s.emit(Event{
		Kind: EventTTL, Session: x.id, Attachment: x.attachment, Incarnation: x.incarnation, TTLNanos: x.ttl,
	})
	return s.cache(x, seq, answer{kind: answerTTL, code: command.Code_CODE_OK})
}

// join adds a process, or learns the new id of one that is in it already (an
// agent that restarted gives its processes new ids). An attachment may be named;
// under another one it has no effect.
func (s *State) join(c *command.Command, j *command.Join) *command.Result {
	x, no := s.authorised(c, j.SecretHash)
	if no != nil {
		return no
	}
	if c.Attachment != 0 && c.Attachment != x.attachment {
		return refuse(command.Code_CODE_SUPERSEDED, "the session is attached elsewhere now")
	}
	x = s.touch(x)
	s.acknowledge(x, c.AckMark, c.AckAbove)
	p := processOf(j.Process)
	at := len(x.processes)
	for i, q := range x.processes {
		if q.ID == p.ID {
			return attachedResult(x)
		}
		if q.same(p) {
			at, p.Opener = i, q.Opener
		}
	}
	if at >= command.ProcessesMax {
		return refuse(command.Code_CODE_LIMIT, "too many processes in the session")
	}
	processes := append([]Process(nil), x.processes...)
	if at == len(processes) {
		processes = append(processes, p)
	}
	processes[at] = p
	x.processes = processes
	return attachedResult(x)
}

func attachedResult(x *session) *command.Result { return answerResult(x, attachedAnswer(0, x)) }

// leave takes a process out. The last one ends the session, unless it was
// opened to leave its lease to run out.
func (s *State) leave(x *session, id uint64) *command.Result {
	var left []Process
	for _, p := range x.processes {
		if p.ID != id {
			left = append(left, p)
		}
	}
	if len(left) == len(x.processes) {
		return refuse(command.Code_CODE_NO_PROCESS, "no such process in the session")
	}
	x.processes = left
	if len(left) == 0 && !x.leaseOnExit {
		s.end(x, command.EndReason_END_REASON_EXITED)
	}
	return ok()
}
