package fsm

import (
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

// This file has every change of sessions and uses; rules live elsewhere. It
// keeps indexes, counts and hash in step, so that nothing else has to.

// touch returns x for changing: the one that views do not see. Every pointer to
// the session got before in the same command must be dropped for it, unless it
// was touched already.
func (s *State) touch(x *session) *session {
	if x.dirty {
		return x
	}
	s.sum -= x.hash
	if x.epoch != s.epoch {
		c := *x
		c.epoch = s.epoch
		x = &c
		s.sessions.Set(x)
	}
	x.dirty = true
	s.dirty = append(s.dirty, x)
	return x
}

// clean counts the hashes of changed sessions again.
func (s *State) clean() {
	for i, x := range s.dirty {
		x.dirty = false
		if !x.dead {
			x.hash = hashSession(x)
			s.sum += x.hash
		}
		s.dirty[i] = nil
	}
	s.dirty = s.dirty[:0]
}

// begin puts a new session in.
func (s *State) begin(x *session) {
	x.epoch, x.dirty = s.epoch, true
	s.dirty = append(s.dirty, x)
	s.sessions.Set(x)
	s.identities[x.identity]++
}

// vanish takes a touched session out; its claims must be gone.
func (s *State) vanish(x *session) {
	x.dead = true
	s.sessions.Delete(x)
	if s.identities[x.identity]--; s.identities[x.identity] == 0 {
		delete(s.identities, x.identity)
	}
}

// put inserts u, or puts it in the place of the use of its sequence.
func (s *State) put(u *use) {
	u.hash = hashUse(u)
	s.sum += u.hash
	if was, replaced := s.uses.Set(u); replaced {
		s.sum -= was.hash
	}
	switch u.kind {
	case useWait:
		s.queue.Set(u)
	case useHold:
		l, _ := s.lock(u.lock)
		l.name, l.holder = u.lock, u
		s.locks.Set(l)
	}
}

// forget takes a use out, with no trace.
func (s *State) forget(u *use) {
	s.uses.Delete(u)
	s.sum -= u.hash
}

// enqueue puts a new wait into its lock's queue.
func (s *State) enqueue(x *session, u *use) {
	s.order++
	u.kind, u.order = useWait, s.order
	if mutant.On("fsm-order") {
		u.priority = 0
	}
	l, _ := s.lock(u.lock)
	u.lock = l.name // share the name's bytes with everybody who waits
	l.waiters++
	s.locks.Set(l)
	x.waits++
	s.put(u)
}

// grant makes a hold of u, a new acquire or the wait at the queue's head. The
// lock must be without holder.
func (s *State) grant(x *session, u *use) *use {
	h := *u
	if u.kind == useWait {
		s.dequeue(x, u)
	}
	s.token++
	h.kind, h.token, h.order = useHold, s.token, 0
	if mutant.On("fsm-token-reuse") {
		l, _ := s.lock(u.lock)
		h.token = 1
		if l.holder != nil {
			h.token = l.holder.token + 1
		}
	}
	x.holds++
	s.put(&h)
	return &h
}

func (s *State) dequeue(x *session, w *use) {
	s.queue.Delete(w)
	l, _ := s.lock(w.lock)
	l.waiters--
	s.locks.Set(l)
	x.waits--
}

// remove takes a claim away and leaves of its sequence what a later copy of
// its acquire must find: why it is gone, until that is acknowledged. After a
// hold's removal its lock must be promoted.
func (s *State) remove(x *session, u *use, why command.Gone) {
	if u.kind == useWait {
		s.dequeue(x, u)
	} else {
		x.holds--
		if u.revoked {
			s.revoked--
		}
	}
	switch {
	case x.plain != nil, u.seq <= x.mark:
		s.forget(u)
	case u.acked:
		s.put(&use{session: u.session, seq: u.seq, kind: useAcked})
	default:
		x.answers++
		s.put(&use{session: u.session, seq: u.seq, kind: useGone, lock: u.lock, gone: uint8(why)})
	}
}

// promote grants a lock whose hold was removed to the first that waits, or
// forgets it.
func (s *State) promote(name string) {
	w := s.firstWait(name)
	if w == nil {
		s.locks.Delete(lock{name: name})
		return
	}
	x := s.touch(s.session(w.session))
	if x.plain != nil {
		w = s.joinRequests(x, w)
	}
	h := s.grant(x, w)
	s.emit(Event{
		Kind: EventGranted, Session: x.id, Attachment: x.attachment, Incarnation: x.incarnation,
		Seq: h.seq, Token: h.token, Lock: h.lock,
	})
}

// lose removes a claim and sees to what follows: the end of a plain session,
// the grant to the next.
func (s *State) lose(x *session, u *use, why command.Gone, reason command.EndReason) {
	s.remove(x, u, why)
	if x.plain != nil && x.claims() == 0 {
		s.vanish(x)
		s.emitEnded(x, reason)
	}
	if u.kind == useHold {
		s.promote(u.lock)
	}
}

// end ends a session with all it has: waits go first, so that none of them is
// granted what its own session gives up (I3).
func (s *State) end(x *session, reason command.EndReason) {
	waits, holds := s.claimsOf(x.id)
	for _, w := range waits {
		s.dequeue(x, w)
	}
	x.holds = 0
	for _, h := range holds {
		if h.revoked {
			s.revoked--
		}
	}
	var all []*use
	s.usesOf(x.id, 0, func(u *use) bool { all = append(all, u); return true })
	for _, u := range all {
		s.forget(u)
	}
	s.vanish(x)
	s.emitEnded(x, reason)
	for _, h := range holds {
		if mutant.On("fsm-end-promote") {
			s.locks.Delete(lock{name: h.lock})
			continue
		}
		s.promote(h.lock)
	}
}

func (s *State) emitEnded(x *session, reason command.EndReason) {
	s.emit(Event{
		Kind: EventEnded, Session: x.id, Attachment: x.attachment, Incarnation: x.incarnation, Reason: reason,
	})
}

func (s *State) emitGone(x *session, u *use, why command.Gone) {
	s.emit(Event{
		Kind: EventGone, Session: x.id, Attachment: x.attachment, Incarnation: x.incarnation,
		Seq: u.seq, Token: u.token, Lock: u.lock, Gone: why,
	})
}
