package fsm

import (
	"sort"

	"github.com/tidwall/btree"

	"github.com/raftlock/raftlock/fsm/command"
)

// header is the state that concerns no session.
type header struct {
	index     uint64
	term      uint64
	clusterID string
	version   uint32
	// token, order and attachments are the last numbers given out.
	token       uint64
	order       uint64
	attachments uint64
}

// tables are the trees of a State, and of each View of it. sessions and uses
// are state; locks and queue are indexes over uses.
type tables struct {
	sessions *btree.BTreeG[*session]
	uses     *btree.BTreeG[*use]
	locks    *btree.BTreeG[lock]
	queue    *btree.BTreeG[*use]
}

// lock is one lock that somebody holds; there is no other (I4 grants in the
// command that frees, and an idle lock is forgotten).
type lock struct {
	name    string
	holder  *use
	waiters uint32
}

func lockLess(a, b lock) bool { return a.name < b.name }

func newTables() tables {
	o := btree.Options{NoLocks: true}
	return tables{
		sessions: btree.NewBTreeGOptions(sessionLess, o),
		uses:     btree.NewBTreeGOptions(useLess, o),
		locks:    btree.NewBTreeGOptions(lockLess, o),
		queue:    btree.NewBTreeGOptions(queueLess, o),
	}
}

func (t *tables) copy() tables {
	return tables{
		sessions: t.sessions.Copy(), uses: t.uses.Copy(), locks: t.locks.Copy(), queue: t.queue.Copy(),
	}
}

func (t *tables) session(id ID) *session {
	x, _ := t.sessions.Get(&session{id: id})
	return x
}

func (t *tables) use(id ID, seq uint64) *use {
	u, _ := t.uses.Get(&use{session: id, seq: seq})
	return u
}

func (t *tables) lock(name string) (lock, bool) { return t.locks.Get(lock{name: name}) }

// usesOf calls f for the uses of a session from sequence from on, in order,
// until f says no. The tree must not be changed meanwhile.
func (t *tables) usesOf(id ID, from uint64, f func(*use) bool) {
	t.uses.Ascend(&use{session: id, seq: from}, func(u *use) bool {
		return u.session == id && f(u)
	})
}

// claimsOf returns the waits and the holds of a session, by sequence.
func (t *tables) claimsOf(id ID) (waits, holds []*use) {
	t.usesOf(id, 0, func(u *use) bool {
		switch u.kind {
		case useWait:
			waits = append(waits, u)
		case useHold:
			holds = append(holds, u)
		}
		return true
	})
	return waits, holds
}

// firstWait returns the wait to be granted next.
func (t *tables) firstWait(name string) *use {
	var found *use
	t.queue.Ascend(queueStart(name), func(u *use) bool {
		if u.lock == name {
			found = u
		}
		return false
	})
	return found
}

// queueStart is below every wait for the lock.
func queueStart(name string) *use { return &use{lock: name, priority: 1<<31 - 1} }

// position of a wait: 1 is granted next. The last one's is known from the
// count; others cost two binary searches over the whole queue tree.
func (t *tables) position(w *use) uint64 {
	l, _ := t.lock(w.lock)
	last, n := true, 0
	t.queue.Ascend(w, func(u *use) bool {
		n++
		last = n == 1 || u.lock != w.lock
		return n == 1
	})
	if last {
		return uint64(l.waiters)
	}
	return uint64(t.rank(w)-t.rank(queueStart(w.lock))) + 1
}

// rank counts the waits below w in the queue tree.
func (t *tables) rank(w *use) int {
	return sort.Search(t.queue.Len(), func(i int) bool {
		u, _ := t.queue.GetAt(i)
		return !queueLess(u, w)
	})
}

// standing says what the state knows of a use of an acquire.
func (t *tables) standing(u *use) *command.Standing {
	st := &command.Standing{Seq: u.seq, Lock: u.lock}
	switch u.kind {
	case useWait:
		st.State, st.Position = command.Standing_STATE_WAITING, t.position(u)
	case useHold:
		st.State, st.Token, st.Revoked = command.Standing_STATE_HELD, u.token, u.revoked
	default:
		st.State, st.Gone = command.Standing_STATE_GONE, command.Gone(u.gone)
	}
	return st
}

// holderOf tells people and clients who has a lock.
func (t *tables) holderOf(name string) *command.Holder {
	l, ok := t.lock(name)
	if !ok {
		return nil
	}
	x := t.session(l.holder.session)
	return &command.Holder{
		Session: append([]byte(nil), x.id[:]...), Owner: x.owner(), Agent: x.agent, Token: l.holder.token,
	}
}
