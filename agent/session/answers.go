package session

import (
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
	"github.com/raftlock/raftlock/lease"
	"github.com/raftlock/raftlock/link/linkpb"
	"github.com/raftlock/raftlock/telemetry/tracing"
)

// proposed takes the answer to one proposal of the current link.
func (h *Host) proposed(f *linkpb.Proposed, now time.Duration) {
	p, ok := h.up.pending[f.Id]
	if !ok {
		return
	}
	delete(h.up.pending, f.Id)
	if p.what == proposeCall {
		h.callAnswered(p.call, f)
		return
	}
	s := h.sessions[p.session]
	if s == nil {
		if f.Confirmed {
			h.up.strangers[p.session] = struct{}{}
		}
		return
	}
	if e := s.entries[p.seq]; e != nil && p.what == proposeRequest {
		e.way = nil
		e.spans.met(f)
	}
	switch f.Outcome {
	case linkpb.Proposed_OUTCOME_QUEUE_FULL:
		h.refused(s, p)
		return
	case linkpb.Proposed_OUTCOME_APPLIED:
	default:
		return // unknown: the next link reconciles
	}
	r := f.Result
	if p.what != proposeAttach && h.lostAttachment(s, p, r.Code) {
		return
	}
	switch p.what {
	case proposeAttach:
		h.attached(s, p, f, now)
	case proposeReconcile:
		h.reconciled(s, p, f, now)
	case proposeRequest:
		if e := s.entries[p.seq]; e != nil {
			h.answered(s, e, r, now)
		}
	case proposeChore:
		h.choreDone(s, p.chore, r)
	}
}

// refused is QUEUE_FULL: nothing changed. What can wait is asked again at the
// next tick; the application's acquire is its own to repeat.
func (h *Host) refused(s *session, p pending) {
	e := s.entries[p.seq]
	if p.what != proposeRequest || e == nil || e.sent > 1 {
		// Sent before, it may have been applied: a reconcile tells.
		s.retry = true
		return
	}
	h.measureGone(e, api.Reason_REASON_QUEUE_FULL)
	s.remove(p.seq, tracing.OutcomeRefused, api.Reason_REASON_QUEUE_FULL)
	s.answer(&api.Answer{Seq: p.seq, Reason: api.Reason_REASON_QUEUE_FULL, Detail: "the leader's queue is full; ask again later"})
	h.unchanged(s, e)
}

// lostAttachment handles the two answers that concern the session as a whole.
func (h *Host) lostAttachment(s *session, p pending, code command.Code) bool {
	switch code {
	case command.Code_CODE_NO_SESSION:
		if s.attaching == nil {
			h.drop(s, h.endReason(s))
		}
		return true
	case command.Code_CODE_SUPERSEDED:
		// Asked under an attachment that this agent has replaced by now, or is
		// replacing: what was asked is sent again under the new one.
		if s.attaching == nil && p.attachment == s.attachment {
			h.drop(s, api.Reason_REASON_SUPERSEDED)
		}
		return true
	}
	return false
}

// endReason tells an application's own end from one it must hear about.
func (h *Host) endReason(s *session) api.Reason {
	if _, own := s.chores[choreKey{kind: choreEnd}]; own {
		return api.Reason_REASON_OK
	}
	return api.Reason_REASON_SESSION_ENDED
}

// attached takes the answer to an open or resume.
func (h *Host) attached(s *session, p pending, f *linkpb.Proposed, now time.Duration) {
	r, a := f.Result, s.attaching
	if a == nil || a.Seq != p.seq {
		// A newer resume took its place, or it was asked twice. Nothing here
		// may be vouched for under another attachment than this agent's.
		if f.Confirmed && (a != nil || r.Attachment != s.attachment) {
			s.confirmed, s.retry = false, true
		}
		return
	}
	out := &api.Attached{Seq: p.seq, Reason: reason(r.Code), Detail: r.Detail, ClockNanos: uint64(now)}
	if r.Code == command.Code_CODE_OK && (r.Incarnation != h.cfg.Incarnation || r.Attachment < s.attachment) {
		// The answer of once, made through another start of this agent or
		// another host, or older than what is attached: the client resumes.
		out.Reason = api.Reason_REASON_SUPERSEDED
	}
	if out.Reason != api.Reason_REASON_OK {
		none := r.Code == command.Code_CODE_NO_SESSION || r.Code == command.Code_CODE_LIMIT && a.GetOpen() != nil
		if !none {
			h.up.strangers[s.id] = struct{}{} // the leader may have it confirmed here
		}
		h.notAttached(s, out)
		return
	}
	s.attaching = nil
	s.attachment = r.Attachment
	h.takeTTL(s, time.Duration(r.TtlNanos))
	s.attachV = lease.HolderDeadline(s.attachFirst, s.ttl)
	h.sayAttached(s, a.GetOpen() != nil)
	if a.GetOpen() != nil || mutant.On("session-resume-v") {
		h.moveV(s, s.attachV, now)
		if f.Confirmed {
			h.confirm(s)
		}
	}
	// A resume is confirmed by the reconcile after it: a heartbeat must not
	// move V before that has told which holds are revoked.
	s.retry = !s.confirmed
	h.cfg.Wake() // its beats may be due sooner than those of others
	out.DeadlineNanos, out.TtlNanos = uint64(s.v), uint64(s.ttl)
	out.StreamBound = s.opener.bound()
	if s.stream != nil {
		s.stream.send(&api.SessionResponse{Response: &api.SessionResponse_Attached{Attached: out}})
	}
	for _, seq := range s.sequences() {
		if e := s.entries[seq]; !e.held {
			h.request(s, e)
		}
	}
	h.sendChores(s)
	for _, p := range s.processes() {
		h.tellJoined(s, p)
	}
}

// notAttached refuses the open or resume. A session that was attached here
// before by this process is over, whatever the reason.
func (h *Host) notAttached(s *session, out *api.Attached) {
	if s.stream != nil {
		s.stream.send(&api.SessionResponse{Response: &api.SessionResponse_Attached{Attached: out}})
	}
	if s.opener.exited && out.Reason == api.Reason_REASON_SUPERSEDED {
		// The process died while its open was on its way; what the open made
		// is another incarnation's, and its lease ends it.
		s.stream = nil
	}
	if s.stream != nil {
		s.stream.finish()
		s.stream = nil
	}
	h.drop(s, out.Reason)
}

// confirm begins vouching on this link, with the next beat.
func (h *Host) confirm(s *session) {
	delete(h.up.strangers, s.id)
	s.confirmed, s.confirmedAfter = true, h.beatNo
	if mutant.On("session-confirmed-after") {
		s.confirmedAfter = 0
	}
}

// takeTTL takes in the TTL that the cluster has. Answers tell what is in force
// when they are made, also those of once, and come in the log's order.
func (h *Host) takeTTL(s *session, ttl time.Duration) {
	if ttl != 0 {
		s.inForce = ttl
	}
	switch {
	case ttl == 0 || s.changing():
	case ttl <= s.ttl || s.ttl == 0:
		s.grow = 0
		h.reckon(s, ttl)
	default:
		s.grow, s.growAfter = ttl, h.beatNo
	}
}

// reconciled takes the cluster's word for everything that was named.
func (h *Host) reconciled(s *session, p pending, f *linkpb.Proposed, now time.Duration) {
	if p.attachment != s.attachment || s.attaching != nil {
		return
	}
	r := f.Result
	if r.Code != command.Code_CODE_OK {
		h.up.strangers[s.id] = struct{}{}
		h.drop(s, reason(r.Code))
		return
	}
	if f.Confirmed {
		h.confirm(s)
		h.urgent = true
		h.cfg.Wake()
	} else {
		s.retry = true
	}
	out := &api.Reconciled{}
	for _, st := range r.Standings {
		if !mutant.On("session-standings") {
			h.standing(s, st, out, now)
		}
	}
	for _, a := range r.Answered {
		if e := s.entries[a.Seq]; e != nil {
			h.answered(s, e, a.Result, now)
		}
	}
	h.moveV(s, s.attachV, now) // every mark of a revocation is known by now
	s.attachV = 0              // and it counts once: the TTL it was made of may change
	if p.list != s.lists || s.reconcile == nil {
		return // made without the application's list, or with an older one
	}
	for seq := range s.reconcile {
		if e := s.entries[seq]; e != nil && e.lost { // judged lost here, so not named
			out.Standings = append(out.Standings, standingOf(s, e, &command.Standing{Seq: seq}))
		}
	}
	if s.stream != nil {
		s.stream.send(&api.SessionResponse{Response: &api.SessionResponse_Reconciled{Reconciled: out}})
	}
	s.reconcile = nil
}

// standing takes one named sequence's standing. One that the cluster never saw
// is asked again here, or by the application where only it knows the request.
func (h *Host) standing(s *session, st *command.Standing, out *api.Reconciled, now time.Duration) {
	e := s.entries[st.Seq]
	if e == nil {
		return
	}
	if st.State == command.Standing_STATE_UNSEEN {
		if e.cmd != nil {
			h.request(s, e)
			return
		}
		out.Unseen = append(out.Unseen, st.Seq)
		s.remove(st.Seq, tracing.OutcomeUnknown, api.Reason_REASON_UNSPECIFIED)
		return
	}
	_, listed := s.reconcile[st.Seq]
	h.stands(s, e, st, now)
	if listed {
		if as := standingOf(s, e, st); as != nil {
			out.Standings = append(out.Standings, as)
		}
	}
}

// stands takes in what the state says of an acquire.
func (h *Host) stands(s *session, e *entry, st *command.Standing, now time.Duration) {
	e.acquire = true
	if st.Lock != "" {
		e.lock = st.Lock
	}
	switch st.State {
	case command.Standing_STATE_WAITING:
		e.position = st.Position
		e.spans.waits(e.lock, st.Position)
		h.measureQueued(e)
		if !e.answered {
			e.answered = true
			s.answer(&api.Answer{Seq: e.seq, Reason: api.Reason_REASON_OK, Standing: standingOf(s, e, st)})
		}
	case command.Standing_STATE_HELD:
		e.held, e.token = true, st.Token
		e.spans.granted(st.Token)
		if st.Revoked {
			h.revoke(s, e, now)
		}
		h.report(s, e, now)
	case command.Standing_STATE_GONE:
		h.over(s, e, st)
	}
}

// over ends an entry: it neither waits nor holds any more.
func (h *Host) over(s *session, e *entry, st *command.Standing) {
	delete(s.entries, e.seq)
	as := standingOf(s, e, st)
	e.ends(as.Reason)
	h.measureGone(e, as.Reason)
	if e.lost {
		return // told already
	}
	if e.answered {
		s.tell(as)
		return
	}
	s.answer(&api.Answer{Seq: e.seq, Reason: as.Reason, Standing: as})
}

// answered takes the result of a request of the application.
func (h *Host) answered(s *session, e *entry, r *command.Result, now time.Duration) {
	if len(r.Standings) == 1 && e.acquire {
		h.stands(s, e, r.Standings[0], now)
		return
	}
	out := &api.Answer{Seq: e.seq, Reason: reason(r.Code), Detail: r.Detail}
	delete(s.entries, e.seq)
	e.ends(out.Reason)
	h.measureGone(e, out.Reason)
	if c := e.cmd.GetRelease(); c != nil {
		if held := s.entries[c.Hold]; held != nil && held.token == c.Token {
			h.measureEnd(held, HowReleased, OutcomeCancelled)
			h.sayHold(s, held, e.spans, "released")
			s.remove(c.Hold, tracing.OutcomeGone, api.Reason_REASON_RELEASED)
		}
	}
	out.TtlNanos = r.TtlNanos
	switch {
	case e.cmd.GetSetTtl() == nil:
	case r.Code == command.Code_CODE_OK:
		h.takeTTL(s, time.Duration(r.TtlNanos))
		if s.holds() {
			h.cfg.Metrics.Renewed(1)
		}
	case r.Code == command.Code_CODE_INVALID, r.Code == command.Code_CODE_LIMIT:
		h.unchanged(s, e)
	default:
		// Applied or not: the smaller one counts, until an answer tells.
		s.inForce = min(s.inForce, s.ttl)
	}
	s.answer(out)
}

// choreDone ends what was repeated: it is applied, or there is nothing left of
// what it named.
func (h *Host) choreDone(s *session, k choreKey, r *command.Result) {
	if r.Code == command.Code_CODE_LIMIT && k.kind != choreJoin {
		s.retry = true
		return
	}
	if _, joining := s.chores[choreKey{kind: choreJoin, seq: k.seq}]; joining && k.kind == choreLeave && r.Code == command.Code_CODE_NO_PROCESS {
		s.retry = true // its join was refused for load: once more, after it
		return
	}
	delete(s.chores, k)
	switch k.kind {
	case choreJoin:
		h.joinDone(s, k.seq, r)
	case choreCancel:
		s.answer(&api.Answer{Seq: k.seq, Reason: api.Reason_REASON_CANCELLED, Standing: &api.Standing{
			Seq: k.seq, State: api.Standing_STATE_GONE, Reason: api.Reason_REASON_CANCELLED,
		}})
	case choreRelease:
		if e := s.entries[k.seq]; e != nil && e.token == k.token {
			s.remove(k.seq, tracing.OutcomeGone, api.Reason_REASON_LOST)
		}
		s.tell(&api.Standing{Seq: k.seq, State: api.Standing_STATE_GONE, Token: k.token, Reason: api.Reason_REASON_LOST})
	case choreEnd:
		h.drop(s, api.Reason_REASON_OK)
	}
}

// noticed takes what others did to a session attached here.
func (h *Host) noticed(n *linkpb.Notice, now time.Duration) {
	if len(n.Session) != 16 {
		return
	}
	if n.GetStirred() {
		h.stirred(ID(n.Session))
		return
	}
	s := h.sessions[ID(n.Session)]
	if s == nil || n.Attachment != s.attachment {
		return
	}
	switch x := n.Notice.(type) {
	case *linkpb.Notice_Standing:
		if e := s.entries[x.Standing.Seq]; e != nil {
			h.stands(s, e, x.Standing, now)
		}
	case *linkpb.Notice_Ended:
		if s.attaching != nil {
			s.confirmed = false
			return // the open or resume on its way will say
		}
		h.drop(s, h.endedReason(s, x.Ended))
	case *linkpb.Notice_Moved:
		s.confirmed = false
		if s.attaching == nil {
			h.drop(s, api.Reason_REASON_SUPERSEDED)
		}
	case *linkpb.Notice_Ending:
		// The end may yet be withdrawn: ask until it is applied or not.
		s.confirmed, s.retry = false, true
	}
}

func (h *Host) endedReason(s *session, r command.EndReason) api.Reason {
	if r == command.EndReason_END_REASON_EXPIRED {
		return api.Reason_REASON_EXPIRED
	}
	return h.endReason(s)
}
