package fsm

import (
	"slices"

	"github.com/raftlock/raftlock/fsm/command"
)

// Plain requests (design section 6) have no client that keeps sequences, so
// their rules are about what (owner, lock) wants:
//
//   - a plain session has one hold, or else waits, each named by a request id:
//     never both. When one of its waits is granted the others are satisfied by
//     the same hold;
//   - a hold remembers the requests that it satisfied. A cancel takes one of
//     them out, and the last one's gives the hold up: its caller hung up before
//     it heard. A hold that was also answered to a request without an id, or
//     renewed by its token, is claimed: somebody knows it, no cancel ends it;
//   - its TTL only rises while it lives. Several processes may share an owner,
//     and a deadline told to one of them must not pass earlier because another
//     asked for less. Who asks for less may believe in less.

// PlainID names the implicit session of plain requests of owner for lock.
func PlainID(owner, lock string) ID { return command.PlainID(owner, lock) }

func (s *State) plainAcquire(p *command.PlainAcquire) *command.Result {
	x := s.session(PlainID(p.Owner, p.Lock))
	if x != nil && x.plain == nil {
		return refuse(command.Code_CODE_EXISTS, "a client's session uses the id of this owner and lock")
	}
	if x != nil && x.holds > 0 {
		return s.plainAgain(s.touch(x), p)
	}
	l, held := s.lock(p.Lock)
	if held && p.RequestId == "" {
		return &command.Result{Code: command.Code_CODE_HELD, Detail: detailHeld, Holder: s.holderOf(p.Lock)}
	}
	if x != nil {
		if w := s.plainWait(x, p.RequestId); w != nil {
			s.plainRenewed(s.touch(x), p.TtlNanos)
			return s.plainResult(x.id, w)
		}
	}
	if no := s.plainFull(x, l, p); no != nil {
		return no
	}
	if x == nil {
		x = s.plainOpen(p)
	} else {
		x = s.touch(x)
		s.plainRenewed(x, p.TtlNanos)
	}
	return s.plainResult(x.id, s.plainEnter(x, p, held))
}

// plainEnter makes the claim of a new request.
func (s *State) plainEnter(x *session, p *command.PlainAcquire, held bool) *use {
	x.plain = &plain{owner: x.plain.owner, lock: x.plain.lock, next: x.plain.next + 1}
	u := &use{session: x.id, seq: x.plain.next, lock: x.plain.lock, priority: p.Priority}
	var requests []string
	if p.RequestId != "" {
		requests = []string{p.RequestId}
	}
	u.more = newMore(pairsOf(p.Metadata), requests)
	if held {
		s.enqueue(x, u)
		return u
	}
	u.claimed = p.RequestId == ""
	return s.grant(x, u)
}

// plainFull refuses a new claim past a bound. An x of nil is to be opened.
func (s *State) plainFull(x *session, l lock, p *command.PlainAcquire) *command.Result {
	switch {
	case x == nil && s.identities[p.Identity] >= command.SessionsMax:
		return refuse(command.Code_CODE_LIMIT, "too many sessions of this identity: release some")
	case x != nil && x.waits >= command.PlainRequestsMax:
		return refuse(command.Code_CODE_LIMIT, "too many requests of this owner wait for the lock")
	case l.waiters >= command.WaitersMax, s.tokensShort():
		return refuse(command.Code_CODE_LIMIT, detailClaims)
	}
	return nil
}

func (s *State) plainOpen(p *command.PlainAcquire) *session {
	x := &session{
		id: PlainID(p.Owner, p.Lock), ttl: p.TtlNanos, identity: p.Identity,
		plain: &plain{owner: p.Owner, lock: p.Lock},
	}
	s.begin(x)
	s.emit(Event{Kind: EventOpened, Session: x.id, TTLNanos: x.ttl})
	return x
}

// plainAgain answers the holder: the same token, renewed.
func (s *State) plainAgain(x *session, p *command.PlainAcquire) *command.Result {
	h := s.plainHold(x)
	granted := !h.claimed && slices.Contains(h.requests(), p.RequestId) // it is this request's own hold
	h = s.plainAsk(h, p.RequestId)
	if !h.revoked {
		s.plainRenewed(x, p.TtlNanos)
	}
	r := s.plainResult(x.id, h)
	r.Renewed = !granted
	return r
}

// plainAsk notes that a hold is told to one more request; "" is one that no
// cancel can name.
func (s *State) plainAsk(h *use, request string) *use {
	if h.claimed || slices.Contains(h.requests(), request) {
		return h
	}
	c := h.withRequests(withRequest(h.requests(), request))
	if request == "" || len(c.requests()) > command.PlainRequestsMax {
		c = h.withRequests(nil)
		c.claimed = true
	}
	s.put(c)
	return c
}

func withRequest(requests []string, request string) []string {
	out := append(slices.Clone(requests), request)
	slices.Sort(out)
	return out
}

// plainRenewed renews the lease of a plain session.
func (s *State) plainRenewed(x *session, ttl uint64) {
	x.ttl = max(x.ttl, ttl)
	s.emit(Event{Kind: EventRenewed, Session: x.id, TTLNanos: x.ttl})
}

// plainResult is the standing of a plain claim. Its inner sequence is nobody's
// business.
func (s *State) plainResult(id ID, u *use) *command.Result {
	r := standingResult(s.standing(u))
	r.Standings[0].Seq = 0
	r.TtlNanos = s.session(id).ttl
	return r
}

func (s *State) plainHold(x *session) *use {
	_, holds := s.claimsOf(x.id)
	return holds[0]
}

func (s *State) plainWait(x *session, request string) *use {
	waits, _ := s.claimsOf(x.id)
	for _, w := range waits {
		if w.requests()[0] == request {
			return w
		}
	}
	return nil
}

// joinRequests takes all other waits of a plain session out of the queue, since
// the wait to be granted satisfies them, and returns it with all requests.
func (s *State) joinRequests(x *session, granted *use) *use {
	waits, _ := s.claimsOf(x.id)
	if len(waits) == 1 {
		return granted
	}
	var requests []string
	for _, w := range waits {
		requests = append(requests, w.requests()...)
		if w.seq != granted.seq {
			s.dequeue(x, w)
			s.forget(w)
		}
	}
	slices.Sort(requests)
	return granted.withRequests(requests)
}

// plainHeld finds the hold that owner names by its token.
func (s *State) plainHeld(owner, name string, token uint64) (*session, *use, *command.Result) {
	l, held := s.lock(name)
	if !held {
		return nil, nil, refuse(command.Code_CODE_NOT_HELD, "nobody holds the lock")
	}
	if l.holder.session != PlainID(owner, name) {
		r := refuse(command.Code_CODE_NOT_OWNER, detailHeld)
		r.Holder = s.holderOf(name)
		return nil, nil, r
	}
	if l.holder.token != token {
		return nil, nil, refuse(command.Code_CODE_STALE_TOKEN, detailStaleToken)
	}
	x := s.session(l.holder.session)
	if x.plain == nil {
		return nil, nil, refuse(command.Code_CODE_NOT_OWNER, detailHeld)
	}
	return s.touch(x), l.holder, nil
}

func (s *State) plainRenew(p *command.PlainRenew) *command.Result {
	x, h, no := s.plainHeld(p.Owner, p.Lock, p.Token)
	if no != nil {
		return no
	}
	h = s.plainAsk(h, "")
	if !h.revoked {
		s.plainRenewed(x, p.TtlNanos)
	}
	return s.plainResult(x.id, h)
}

func (s *State) plainRelease(p *command.PlainRelease) *command.Result {
	x, h, no := s.plainHeld(p.Owner, p.Lock, p.Token)
	if no != nil {
		return no
	}
	r := ok()
	r.TtlNanos = x.ttl
	s.lose(x, h, command.Gone_GONE_RELEASED, command.EndReason_END_REASON_CLOSED)
	return r
}

// plainCancel takes one request out: its wait, or its part in the hold that
// satisfied it.
func (s *State) plainCancel(p *command.PlainCancel) *command.Result {
	notWaiting := refuse(command.Code_CODE_NOT_WAITING, "no such request waits")
	x := s.session(PlainID(p.Owner, p.Lock))
	if x == nil || x.plain == nil {
		return notWaiting
	}
	u := s.plainWait(x, p.RequestId)
	if x.holds > 0 {
		u = s.plainHold(x)
		if !slices.Contains(u.requests(), p.RequestId) {
			return notWaiting
		}
	}
	if u == nil {
		return notWaiting
	}
	x = s.touch(x)
	if len(u.requests()) > 1 {
		s.put(u.withRequests(slices.DeleteFunc(slices.Clone(u.requests()), func(r string) bool { return r == p.RequestId })))
	} else {
		s.lose(x, u, command.Gone_GONE_CANCELLED, command.EndReason_END_REASON_CLOSED)
	}
	return standingResult(&command.Standing{
		State: command.Standing_STATE_GONE, Lock: p.Lock, Gone: command.Gone_GONE_CANCELLED,
	})
}
