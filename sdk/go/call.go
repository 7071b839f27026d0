package raftlock

import (
	"cmp"
	"maps"
	"slices"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/internal/mutant"
)

type request = raftlockv1.SessionRequest

// call is one request with a sequence, from its making to its answer. It is
// repeated on every stream until then.
type call struct {
	seq      uint64
	template *request // never changed once made
	lock     *Lock    // of acquires and releases
	acquire  bool
	sent     bool // it may have reached an agent
	// done is closed when it is over; err is set before.
	done chan struct{}
	err  error
}

// debt is a hold or wait that must not stay: its giving back is repeated on
// every stream until the session knows that it is gone.
type debt struct {
	seq   uint64
	token uint64 // of a hold that was judged lost; 0: a cancel
	// unanswered: the acquire's own answer is outstanding, so its sequence is
	// acknowledged only when this is settled.
	unanswered bool
}

// parcel is something to be sent on the current stream.
type parcel struct {
	msg  *request
	call *call // nil: send it whatever happened meanwhile
}

// newCall draws the next sequence and queues what build makes of it.
func (s *Session) newCall(build func(seq uint64) *request) *call {
	s.seq++
	c := &call{seq: s.seq, done: make(chan struct{})}
	c.template = build(c.seq)
	s.calls[c.seq] = c
	s.post(parcel{msg: c.template, call: c})
	return c
}

// post queues p if requests flow; otherwise the state is what will be sent.
func (s *Session) post(p parcel) {
	if s.phase != phaseReady || s.closing {
		return
	}
	s.out = append(s.out, p)
	nudge(s.wake)
}

// settle ends a call that was answered, which acknowledges it.
func (s *Session) settle(c *call, err error) {
	s.acks.add(c.seq)
	s.drop(c, err)
}

// drop ends a call; nobody waits for its answer any more.
func (s *Session) drop(c *call, err error) {
	delete(s.calls, c.seq)
	c.err = err
	close(c.done)
}

// owe notes a debt and begins to pay it.
func (s *Session) owe(d *debt) {
	s.owed[d.seq] = d
	s.pay(d)
}

func (s *Session) pay(d *debt) {
	if d.token != 0 {
		s.post(parcel{msg: &request{Request: &raftlockv1.SessionRequest_Release{
			Release: &raftlockv1.Release{Hold: d.seq, Token: d.token, Lost: true}}}})
		return
	}
	s.post(parcel{msg: &request{Request: &raftlockv1.SessionRequest_Cancel{
		Cancel: &raftlockv1.Cancel{Target: d.seq}}}})
}

// paid ends a debt: the session knows that nothing is left of it.
func (s *Session) paid(seq uint64) {
	if d := s.owed[seq]; d != nil {
		delete(s.owed, seq)
		s.acks.add(seq)
	}
}

// flush queues all that must be said on a stream that is ready: first what is
// given back, so that no new acquire of a lock overtakes it.
func (s *Session) flush() {
	s.phase, s.out = phaseReady, nil
	if s.closing {
		s.out = append(s.out, parcel{msg: &request{
			Request: &raftlockv1.SessionRequest_End{End: &raftlockv1.End{}}}})
		nudge(s.wake)
		return
	}
	for _, seq := range slices.Sorted(maps.Keys(s.owed)) {
		if d := s.owed[seq]; d.token != 0 || !mutant.On("sdk-cancel-keep") {
			s.pay(d)
		}
	}
	for _, seq := range slices.Sorted(maps.Keys(s.calls)) {
		s.post(parcel{msg: s.calls[seq].template, call: s.calls[seq]})
	}
	nudge(s.wake)
}

// reconcile makes the list of all that is believed now. Requests made later
// have sequences at or above next; the ones that are cancelled or lost are left
// out, and go by that too.
func (s *Session) reconcile() *request {
	var named []*raftlockv1.Belief
	for seq, c := range s.calls {
		b := &raftlockv1.Belief{Seq: seq}
		if c.acquire {
			b.Lock = c.lock.name
		}
		named = append(named, b)
	}
	for seq, l := range s.locks {
		if l.state != lockAsked {
			named = append(named, &raftlockv1.Belief{Seq: seq, Token: l.token, Lock: l.name})
		}
	}
	slices.SortFunc(named, func(a, b *raftlockv1.Belief) int { return cmp.Compare(a.Seq, b.Seq) })
	s.named = map[uint64]bool{}
	for _, b := range named {
		s.named[b.Seq] = true
	}
	next := s.seq + 1
	if mutant.On("sdk-reconcile-next") {
		next++
	}
	return &request{Request: &raftlockv1.SessionRequest_Reconcile{
		Reconcile: &raftlockv1.Reconcile{Next: next, Named: named}}}
}
