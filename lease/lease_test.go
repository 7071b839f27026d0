package lease

import (
	"math"
	"slices"
	"testing"
	"time"
)

const second = time.Second

func TestDeadlines(t *testing.T) {
	for _, c := range []struct {
		name          string
		at, ttl, d, v time.Duration
	}{
		{"seconds", 100 * second, 10 * second, 110100 * time.Millisecond, 109800 * time.Millisecond},
		{"a remainder favours safety", 0, 101, 101 + 2, 101 - 3},
		{"end of time", math.MaxInt64 - 1, 10 * second, math.MaxInt64, math.MaxInt64},
		{"endless TTL", second, math.MaxInt64, math.MaxInt64, second + (math.MaxInt64 - (math.MaxInt64/50 + 1))},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := Deadline(c.at, c.ttl); d != c.d {
				t.Errorf("D is %d, want %d", d, c.d)
			}
			if v := HolderDeadline(c.at, c.ttl); v != c.v {
				t.Errorf("V is %d, want %d", v, c.v)
			}
		})
	}
}

// TestRules has one short story for each rule about whom a call renews. ttl is
// 10 s, so D of a base of 100 s is 110.1 s.
func TestRules(t *testing.T) {
	a, b := name(1), name(2)
	const ttl, start, later = 10 * second, 100 * second, 105 * second
	opened := func() *Table {
		table := New()
		table.Open(a, 1, 7, ttl, start)
		table.Open(b, 1, 7, ttl, start)
		table.Confirm(a, 1, 7)
		return table
	}
	for _, c := range []struct {
		name string
		do   func(*Table)
		// since is the base of session a.
		since time.Duration
	}{
		{"a beat renews the confirmed", func(x *Table) { x.Beat(7, later, nil) }, later},
		{"a confirmation alone renews nothing", func(x *Table) {}, start},
		{"another agent's beat renews nothing", func(x *Table) { x.Beat(8, later, nil) }, start},
		{"an excepted session keeps its base", func(x *Table) { x.Beat(7, later, []ID{a}) }, start},
		{"an excepted member keeps its base", func(x *Table) { x.Beat(7, 102*second, nil); x.Beat(7, later, []ID{a, b}) }, 102 * second},
		{"who is excepted no more is renewed", func(x *Table) { x.Beat(7, start, []ID{a}); x.Beat(7, later, nil) }, later},
		{"a late reading takes nothing back", func(x *Table) { x.Beat(7, later, nil); x.Beat(7, start, nil) }, later},
		{"no link, no beat", func(x *Table) { x.Beat(7, 102*second, nil); x.Unlink(7); x.Beat(7, later, nil) }, 102 * second},
		{"a new link speaks after its own confirmation", func(x *Table) {
			x.Beat(7, 102*second, nil)
			x.Unlink(7)
			x.Confirm(b, 1, 7)
			x.Beat(7, later, nil)
		}, 102 * second},
		{"moved to another agent", func(x *Table) {
			x.Beat(7, start, nil)
			x.Open(a, 2, 8, ttl, 102*second)
			x.Beat(7, later, nil)
		}, 102 * second},
		{"an ending session is not renewed", func(x *Table) { x.Beat(7, start, nil); x.Ending(a); x.Beat(7, later, nil) }, start},
		{"an ending session is not confirmed", func(x *Table) { x.Ending(a); x.Confirm(a, 1, 7); x.Beat(7, later, nil) }, start},
		{"its end failed: a fresh base, unconfirmed", func(x *Table) {
			x.Ending(a)
			x.NotEnding(a, 102*second)
			x.Beat(7, later, nil)
		}, 102 * second},
		{"a change of the TTL is a sign of life", func(x *Table) { x.ChangeTTL(a, ttl, later) }, later},
		{"a change of a member's TTL is one too", func(x *Table) { x.Beat(7, start, nil); x.ChangeTTL(a, ttl, later) }, later},
		{"a plain renewal of an attached session is none", func(x *Table) { x.Renew(a, ttl, later) }, start},
		{"a pause of the leader", func(x *Table) { x.Beat(7, 102*second, nil); x.Shift(3 * second) }, later},
		{"a pause of no length", func(x *Table) { x.Shift(-second) }, start},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := opened()
			c.do(x)
			if d, _ := x.Deadline(a); d != Deadline(c.since, ttl) {
				t.Errorf("D is %v, want %v", d, Deadline(c.since, ttl))
			}
			if err := x.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNeverBack(t *testing.T) {
	a, plain := name(1), name(2)
	x := New()
	x.Open(plain, 1, 0, 30*second, 0)
	x.Renew(plain, second, 10*second)
	if d, _ := x.Deadline(plain); d != Deadline(0, 30*second) {
		t.Errorf("another user of the owner's name shortened D to %v", d)
	}
	x.Open(a, 1, 7, 30*second, 0)
	x.Open(a, 2, 8, second, second)
	if d, _ := x.Deadline(a); d != Deadline(0, 30*second) {
		t.Errorf("a resume shortened D to %v", d)
	}
	x.ChangeTTL(a, 2*second, 40*second)
	if d, _ := x.Deadline(a); d != Deadline(40*second, 2*second) {
		t.Errorf("D after a smaller TTL is %v", d)
	}
}

// TestShortestTTLOfGroup: one base for all, but who has the shortest TTL is
// found in time.
func TestShortestTTLOfGroup(t *testing.T) {
	x := New()
	for i, ttl := range []time.Duration{60 * second, 2 * second, 30 * second, 90 * second} {
		x.Open(name(i), 1, 7, ttl, 0)
		x.Confirm(name(i), 1, 7)
	}
	x.Beat(7, second, nil)
	if next, ok := x.Next(); !ok || next != Deadline(second, 2*second) {
		t.Errorf("Next is %v %v", next, ok)
	}
	if got := x.Expired(4*second, 9); len(got) != 1 || got[0].ID != name(1) {
		t.Errorf("Expired is %v", got)
	}
}

// TestEndOvertakenByLog: an end is withdrawn if the log renewed the session
// after the end was proposed, for the answer has moved V and D stood still.
func TestEndOvertakenByLog(t *testing.T) {
	for _, c := range []struct {
		name        string
		incarnation uint64
		do          func(*Table) bool
	}{
		{"by a change of TTL", 7, func(x *Table) bool { return x.ChangeTTL(name(1), second, 5*second) }},
		{"by a plain renewal", 0, func(x *Table) bool { return x.Renew(name(1), second, 5*second) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := New()
			x.Open(name(1), 1, c.incarnation, second, 0)
			if x.MayEnd(name(1)) || !x.Ending(name(1)) || x.Ending(name(1)) || !x.MayEnd(name(1)) {
				t.Fatal("it ends once, and only after Ending")
			}
			if c.do(x) {
				t.Error("an ending session was renewed")
			}
			if x.MayEnd(name(1)) {
				t.Error("its end may be logged after a renewal was")
			}
			x.NotEnding(name(1), 5*second)
			if got := x.Expired(9*second, 1); len(got) != 1 || got[0].D != Deadline(5*second, second) {
				t.Errorf("Expired is %v", got)
			}
		})
	}
}

func TestUnknown(t *testing.T) {
	x, a := New(), name(1)
	if x.Confirm(a, 1, 7) || x.Renew(a, second, 0) || x.ChangeTTL(a, second, 0) || x.Ending(a) || x.MayEnd(a) ||
		x.Releasing(Hold{Session: a}) {
		t.Error("something was done for an unknown session")
	}
	x.Remove(a)
	x.NotEnding(a, 0)
	x.Released(Hold{Session: a})
	x.NotReleasing(Hold{Session: a})
	x.Beat(7, 0, []ID{a})
	x.Unlink(7)
	if _, ok := x.Deadline(a); ok || x.Len() != 0 {
		t.Error("it is known now")
	}
	if _, ok := x.Next(); ok {
		t.Error("it has a deadline")
	}
}

func TestRevokedHolds(t *testing.T) {
	x, a := New(), name(1)
	first, other := Hold{a, 1, 10}, Hold{a, 2, 11}
	x.Open(a, 1, 7, 10*second, 0)
	x.Confirm(a, 1, 7)
	x.Revoke(first, 10*second, 0)
	x.Revoke(other, 10*second, second)
	x.Revoke(first, 10*second, 5*second)
	x.Beat(7, 10*second, nil)
	if next, _ := x.Next(); next != Deadline(0, 10*second) {
		t.Errorf("a beat or a second mark postponed the deadline to %v", next)
	}
	if got := x.ExpiredHolds(20*second, 9); !slices.Equal(got, []Hold{first, other}) {
		t.Errorf("ExpiredHolds is %v", got)
	}
	if !x.Releasing(first) || x.Releasing(first) {
		t.Error("a release is proposed once")
	}
	if got := x.ExpiredHolds(20*second, 9); !slices.Equal(got, []Hold{other}) {
		t.Errorf("ExpiredHolds is %v", got)
	}
	x.NotReleasing(first)
	if got := x.ExpiredHolds(20*second, 1); !slices.Equal(got, []Hold{first}) {
		t.Errorf("ExpiredHolds is %v", got)
	}
	x.Remove(a)
	if got := x.ExpiredHolds(20*second, 9); got != nil {
		t.Errorf("the holds of an ended session remain: %v", got)
	}
}

// TestCheckNotices: Check is what simulations lean on.
func TestCheckNotices(t *testing.T) {
	for what, spoil := range map[string]func(*Table){
		"filed wrongly":       func(x *Table) { x.sessions[name(9)] = x.sessions[name(0)] },
		"ending, confirmed":   func(x *Table) { x.sessions[name(0)].ending = true },
		"not in its group":    func(x *Table) { x.sessions[name(0)].place = 99 },
		"another TTL's span":  func(x *Table) { x.sessions[name(0)].ttl++ },
		"stands nowhere":      func(x *Table) { x.sessions[name(2)].place = 99 },
		"does not wait":       func(x *Table) { x.sessions[name(2)].group.waiting[0] = nil },
		"lost one alone":      func(x *Table) { delete(x.sessions, name(3)) },
		"lost a member":       func(x *Table) { delete(x.sessions, name(1)) },
		"gone but linked":     func(x *Table) { x.links[7].gone = true },
		"group nowhere":       func(x *Table) { x.links[7].place = 99 },
		"members unordered":   func(x *Table) { x.links[7].members.swap(0, 1) },
		"alone unordered":     func(x *Table) { x.alone.swap(0, 1) },
		"hold of nobody":      func(x *Table) { clear(x.holds.ofSession) },
		"hold nowhere":        func(x *Table) { x.holds.named(Hold{Session: name(0)}).place = 99 },
		"hold counted twice":  func(x *Table) { x.holds.order.push(&hold{}) },
		"holds out of order":  func(x *Table) { x.holds.order.swap(0, 1) },
		"groups out of order": func(x *Table) { x.groups.swap(0, 1) },
	} {
		t.Run(what, func(t *testing.T) {
			x := New()
			for i := range 5 {
				x.Open(name(i), 1, 7, time.Duration(1+i)*second, 0)
			}
			x.Open(name(5), 1, 8, 9*second, 0)
			x.Confirm(name(5), 1, 8)
			x.Beat(8, second, nil)
			x.Confirm(name(0), 1, 7)
			x.Confirm(name(1), 1, 7)
			x.Beat(7, second, nil)
			x.Confirm(name(2), 1, 7)
			x.Revoke(Hold{Session: name(0)}, second, 0)
			x.Revoke(Hold{Session: name(1)}, second, second)
			if err := x.Check(); err != nil {
				t.Fatal(err)
			}
			spoil(x)
			if x.Check() == nil {
				t.Error("not noticed")
			}
		})
	}
}
