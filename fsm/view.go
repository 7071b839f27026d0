package fsm

import (
	"strings"

	"github.com/raftlock/raftlock/fsm/command"
)

// View is the state as of one index. It never changes, so any number of
// goroutines may read it while applies go on; it keeps what it shows from being
// freed, so drop it when done.
type View struct {
	header
	tables
}

// View takes a view of the state, at no cost that depends on its size. It must
// be called from the goroutine that applies.
func (s *State) View() *View {
	s.epoch++
	return &View{header: s.header, tables: s.tables.copy()}
}

// Index returns the index of the last entry that the view shows.
func (v *View) Index() uint64 { return v.index }

// Term returns the term of the last Establish that the view shows.
func (v *View) Term() uint64 { return v.term }

// LockInfo describes one lock that somebody holds. Unheld locks are not there.
type LockInfo struct {
	Lock string
	// Holder is who has it: session, agent, token, and for a plain hold owner.
	Holder *command.Holder
	// Seq names the hold in its session.
	Seq      uint64
	Plain    bool
	Revoked  bool
	Waiters  uint64
	Metadata []*command.Pair
	TTLNanos uint64
}

// Get describes a lock; false means that nobody holds it.
func (v *View) Get(name string) (LockInfo, bool) {
	l, ok := v.lock(name)
	if !ok {
		return LockInfo{}, false
	}
	return v.describe(l), true
}

func (v *View) describe(l lock) LockInfo {
	x := v.session(l.holder.session)
	return LockInfo{
		Lock: l.name, Holder: v.holderOf(l.name), Seq: l.holder.seq, Plain: x.plain != nil,
		Revoked: l.holder.revoked, Waiters: uint64(l.waiters), Metadata: pairsTo(l.holder.metadata()),
		TTLNanos: x.ttl,
	}
}

// Standing says what became of an acquire: its place in the queue, its token,
// or why it is gone. False: the session lives no more, or never used seq, or
// acknowledged that it is over.
func (v *View) Standing(id ID, seq uint64) (*command.Standing, bool) {
	u := v.use(id, seq)
	if u == nil || !u.claim() && u.kind != useGone {
		return nil, false
	}
	return v.standing(u), true
}

// PlainStanding is Standing for a plain request. An empty request id, and any
// that the hold satisfies, finds the hold.
func (v *View) PlainStanding(owner, name, request string) (*command.Standing, bool) {
	waits, holds := v.claimsOf(PlainID(owner, name))
	for _, u := range append(holds, waits...) {
		if u.kind == useHold || request != "" && len(u.requests()) == 1 && u.requests()[0] == request {
			st := v.standing(u)
			st.Seq = 0
			return st, true
		}
	}
	return nil, false
}

// Session describes one session.
func (v *View) Session(id ID) (SessionInfo, bool) {
	x := v.session(id)
	if x == nil {
		return SessionInfo{}, false
	}
	return x.info(), true
}

// sessionsPage bounds a page of Sessions: each has up to ProcessesMax processes.
const sessionsPage = 64

// SessionFilter chooses sessions of clients; plain ones never.
type SessionFilter struct {
	// Agent is the name they are attached through.
	Agent string
	// NotIncarnation leaves out what is attached to it; 0: nothing.
	NotIncarnation uint64
	// After: ids above it only; nil: from the first on.
	After *ID
	// Limit: at most so many; 0, or above 64: 64.
	Limit int
}

// Sessions returns the sessions that f chooses, by id. A next that is not nil
// is the After of the following page. A page may hold fewer than the limit,
// even none, and still have a next: the search of each is bounded.
func (v *View) Sessions(f SessionFilter) (page []SessionInfo, next *ID) {
	limit := f.Limit
	if limit <= 0 || limit > sessionsPage {
		limit = sessionsPage
	}
	from := &session{}
	if f.After != nil {
		from.id = *f.After
	}
	scanned, last := 0, ID{}
	v.sessions.Ascend(from, func(x *session) bool {
		if f.After != nil && x.id == *f.After {
			return true
		}
		if len(page) == limit || scanned == listScan {
			next = &last
			return false
		}
		scanned, last = scanned+1, x.id
		if x.plain == nil && x.agent == f.Agent && (f.NotIncarnation == 0 || x.incarnation != f.NotIncarnation) {
			page = append(page, x.info())
		}
		return true
	})
	return page, next
}

// Bounds of List.
const (
	listDefault = 100
	listMax     = 1000
	// listScan bounds the locks that one page looks at.
	listScan = 1 << 16
	// listBytes bounds what a page has of names and metadata, reckoned with all
	// that goes with them: it travels as one frame of a link, and agents keep as
	// many pages as callers read slowly.
	listBytes = 256 << 10
)

// Filter chooses locks. Every field that is set must match.
type Filter struct {
	Prefix string
	// Pattern: "*" matches any run of characters, "?" one. "" matches all.
	Pattern string
	// Owner as the holder is told with: a plain one's own name, or an identity.
	Owner     string
	Contested bool
	// Metadata pairs that the hold must carry, all of them.
	Metadata []*command.Pair
	// After: names above it only.
	After string
	// Limit: at most so many; 0: 100; never above 1000.
	Limit int
}

// List returns the locks that f chooses, by name. A next that is not empty is
// the After of the following page. A page may hold fewer than the limit, even
// none, and still have a next: the search of each is bounded, and its size.
func (v *View) List(f Filter) (page []LockInfo, next string) {
	limit := f.Limit
	if limit <= 0 {
		limit = listDefault
	}
	limit = min(limit, listMax)
	scanned, bytes, last := 0, 0, f.After
	v.locks.Ascend(lock{name: max(f.Prefix, f.After)}, func(l lock) bool {
		if !strings.HasPrefix(l.name, f.Prefix) {
			return false
		}
		if f.After != "" && l.name <= f.After {
			return true
		}
		if len(page) == limit || scanned == listScan || bytes >= listBytes {
			next = last
			return false
		}
		scanned, last = scanned+1, l.name
		if v.chosen(l, f) {
			found := v.describe(l)
			page = append(page, found)
			bytes += listed(found)
		}
		return true
	})
	return page, next
}

// listed is not less than the bytes that a lock takes of a page's frame, and
// about what it takes of memory there.
func listed(i LockInfo) int {
	const (
		lock = 128
		pair = 64
	)
	n := lock + len(i.Lock) + len(i.Holder.GetOwner()) + len(i.Holder.GetAgent())
	for _, p := range i.Metadata {
		n += pair + len(p.Key) + len(p.Value)
	}
	return n
}

func (v *View) chosen(l lock, f Filter) bool {
	if f.Contested && l.waiters == 0 || f.Pattern != "" && !matches(f.Pattern, l.name) {
		return false
	}
	if f.Owner != "" && v.session(l.holder.session).owner() != f.Owner {
		return false
	}
	return carries(l.holder.metadata(), f.Metadata)
}

func carries(have []pair, want []*command.Pair) bool {
	for _, w := range want {
		found := false
		for _, h := range have {
			found = found || h.key == w.GetKey() && h.value == w.GetValue()
		}
		if !found {
			return false
		}
	}
	return true
}

// matches compares name with a pattern of "*" and "?" in time that grows with
// the product of their lengths, never exponentially: on a mismatch only the
// last "*" is tried anew.
func matches(pattern, name string) bool {
	p, n := []rune(pattern), []rune(name)
	i, j, star, from := 0, 0, -1, 0
	for j < len(n) {
		switch {
		case i < len(p) && p[i] == '*':
			star, from = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == n[j]):
			i, j = i+1, j+1
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
