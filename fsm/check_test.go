package fsm

import (
	"errors"
	"testing"

	"github.com/raftlock/raftlock/fsm/command"
)

// TestCheckFinds breaks one thing at a time.
func TestCheckFinds(t *testing.T) {
	a, b := sessionID("a"), sessionID("b")
	// rewrite puts a changed use in without the care that put takes.
	rewrite := func(s *State, id ID, seq uint64, change func(*use)) {
		u := *s.use(id, seq)
		change(&u)
		s.put(&u)
	}
	alter := func(s *State, id ID, change func(*session)) {
		x := s.touch(s.session(id))
		change(x)
		s.clean()
	}
	alice := PlainID("alice", "P")
	for name, breakIt := range map[string]func(*State){
		"sum":                  func(s *State) { s.sum++ },
		"hash of a use":        func(s *State) { s.use(a, 2).token++ },
		"hash of a session":    func(s *State) { s.session(a).ttl++ },
		"session gone":         func(s *State) { s.sessions.Delete(s.session(a)) },
		"token too high":       func(s *State) { rewrite(s, a, 2, func(u *use) { u.token = 1000 }) },
		"token twice":          func(s *State) { rewrite(s, a, 2, func(u *use) { u.token = s.use(alice, 1).token }) },
		"order":                func(s *State) { rewrite(s, b, 2, func(u *use) { u.order = 99 }) },
		"lock forgotten":       func(s *State) { s.locks.Delete(lock{name: "L"}) },
		"free lock remembered": func(s *State) { s.locks.Set(lock{name: "Z"}) },
		"holder of nothing":    func(s *State) { s.locks.Set(lock{name: "Z", holder: &use{session: a, seq: 77}}) },
		"queue":                func(s *State) { s.queue.Delete(s.use(b, 2)) },
		"waiters":              func(s *State) { l, _ := s.lock("L"); l.waiters++; s.locks.Set(l) },
		"revoked":              func(s *State) { s.revoked++ },
		"counts":               func(s *State) { alter(s, a, func(x *session) { x.holds++ }) },
		"attachment":           func(s *State) { alter(s, a, func(x *session) { x.attachment = 99 }) },
		"attachment twice":     func(s *State) { alter(s, a, func(x *session) { x.attachment = s.session(b).attachment }) },
		"below the mark":       func(s *State) { alter(s, a, func(x *session) { x.mark = 3 }) },
		"ttl":                  func(s *State) { alter(s, a, func(x *session) { x.ttl = 1 }) },
		"identity":             func(s *State) { s.identities["uid:1000"]++ },
		"identity of nobody":   func(s *State) { s.identities["uid:1"]++ },
		"plain and attached":   func(s *State) { alter(s, alice, func(x *session) { x.mark = 1 }) },
		"plain without its id": func(s *State) {
			alter(s, alice, func(x *session) { x.plain = &plain{owner: "eve", lock: "P", next: 1} })
		},
		"plain claim of nobody":   func(s *State) { rewrite(s, alice, 1, func(u *use) { u.claimed = false }) },
		"plain marks":             func(s *State) { rewrite(s, a, 2, func(u *use) { u.claimed = true }) },
		"wait with a token":       func(s *State) { rewrite(s, b, 2, func(u *use) { u.token = 1 }) },
		"gone for no reason":      func(s *State) { rewrite(s, b, 3, func(u *use) { u.gone = 0 }) },
		"answer of no kind":       func(s *State) { rewrite(s, b, 1, func(u *use) { u.more = &more{answer: answer{kind: 9}} }) },
		"token above the limit":   func(s *State) { s.token = command.TokenLimit },
		"version":                 func(s *State) { s.version = 0 },
		"sequence zero":           func(s *State) { s.put(&use{session: a, kind: useGone, gone: 1}) },
		"dirty":                   func(s *State) { s.touch(s.session(a)) },
		"process twice":           func(s *State) { alter(s, a, func(x *session) { x.processes = append(x.processes, x.processes...) }) },
		"queued, nobody's, twice": func(s *State) { s.queue.Set(&use{session: b, lock: "none", kind: useWait}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := mixed(t)
			breakIt(s)
			if err := s.Check(); !errors.Is(err, ErrInvariant) {
				t.Fatalf("got %v", err)
			}
		})
	}
}
