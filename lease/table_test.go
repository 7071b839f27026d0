package lease

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// op is one call, on the table and on the model.
type op struct {
	Kind        string
	ID          ID
	Attachment  uint64
	Incarnation uint64
	TTL         time.Duration
	Except      []ID
	Seq         uint64
	// Step is how far the clock went before it; below zero, this reading was
	// taken before the last one and is handed in after it.
	Step time.Duration
}

// pair is a table and the model of it.
type pair struct {
	table *Table
	model *model
	now   time.Duration
}

func newPair() *pair { return &pair{New(), newModel(), time.Hour} }

func (p *pair) do(o op) error {
	p.now += o.Step
	h, got, want := Hold{o.ID, o.Seq, o.Seq + 1}, false, false
	switch o.Kind {
	case "open":
		p.table.Open(o.ID, o.Attachment, o.Incarnation, o.TTL, p.now)
		p.model.open(o.ID, o.Attachment, o.Incarnation, o.TTL, p.now)
	case "confirm":
		got, want = p.table.Confirm(o.ID, o.Attachment, o.Incarnation), p.model.confirm(o.ID, o.Attachment, o.Incarnation)
	case "beat":
		p.table.Beat(o.Incarnation, p.now, o.Except)
		p.model.beat(o.Incarnation, p.now, o.Except)
	case "unlink":
		p.table.Unlink(o.Incarnation)
		p.model.unlink(o.Incarnation)
	case "renew":
		got, want = p.table.Renew(o.ID, o.TTL, p.now), p.model.renew(o.ID, o.TTL, p.now)
	case "ttl":
		got, want = p.table.ChangeTTL(o.ID, o.TTL, p.now), p.model.changeTTL(o.ID, o.TTL, p.now)
	case "remove":
		p.table.Remove(o.ID)
		p.model.remove(o.ID)
	case "ending":
		got, want = p.table.Ending(o.ID), p.model.beginEnd(o.ID)
	case "not ending":
		p.table.NotEnding(o.ID, p.now)
		p.model.notEnding(o.ID, p.now)
	case "revoke":
		p.table.Revoke(h, o.TTL, p.now)
		p.model.revoke(h, o.TTL, p.now)
	case "released":
		p.table.Released(h)
		delete(p.model.holds, h)
	case "releasing":
		got, want = p.table.Releasing(h), p.model.releasing(h, true)
	case "not releasing":
		p.table.NotReleasing(h)
		p.model.releasing(h, false)
	case "shift":
		p.table.Shift(o.TTL)
		p.model.shift(o.TTL)
	case "wait":
	default:
		panic(o.Kind)
	}
	if got != want {
		return fmt.Errorf("%s answered %v", o.Kind, got)
	}
	return nil
}

var kinds = []string{"open", "open", "confirm", "confirm", "confirm", "beat", "beat", "beat", "unlink", "renew", "ttl",
	"remove", "ending", "not ending", "revoke", "released", "releasing", "not releasing", "shift", "wait"}

func name(i int) ID { return ID{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)} }

func TestAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, ids, agents := newPair(), rapid.IntRange(1, 12).Draw(t, "ids"), rapid.IntRange(1, 3).Draw(t, "agents")
		for range rapid.IntRange(1, 120).Draw(t, "ops") {
			o := op{
				Kind:        rapid.SampledFrom(kinds).Draw(t, "kind"),
				ID:          name(rapid.IntRange(0, ids-1).Draw(t, "id")),
				Attachment:  rapid.Uint64Range(1, 2).Draw(t, "attachment"),
				Incarnation: uint64(rapid.IntRange(0, agents).Draw(t, "agent")),
				TTL:         time.Duration(rapid.IntRange(1, 5).Draw(t, "ttl")) * time.Second,
				Seq:         rapid.Uint64Range(1, 2).Draw(t, "seq"),
				Step:        time.Duration(rapid.IntRange(-200, 900).Draw(t, "step")) * time.Millisecond,
			}
			for range rapid.IntRange(0, 3).Draw(t, "excepted") {
				o.Except = append(o.Except, name(rapid.IntRange(0, ids-1).Draw(t, "except")))
			}
			if err := p.do(o); err != nil {
				t.Fatal(err)
			}
			if err := p.model.differs(p.table, p.now); err != nil {
				t.Fatalf("after %+v: %v", o, err)
			}
		}
	})
}

// TestAgreesWithModelLong is for what needs many sessions and long lives: deep
// heaps, groups that fill and empty. A failure names its seed.
func TestAgreesWithModelLong(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, ids := newPair(), 8<<r.IntN(5)
		for i := range 5000 {
			o := op{Kind: kinds[r.IntN(len(kinds))], ID: name(r.IntN(ids)), Attachment: 1, Incarnation: uint64(r.IntN(4)),
				TTL: time.Duration(1+r.IntN(50)) * 100 * time.Millisecond, Seq: 1, Step: time.Duration(r.IntN(120)-20) * time.Millisecond}
			if s := p.model.sessions[o.ID]; s != nil && o.Kind == "confirm" {
				o.Incarnation = s.incarnation
			}
			for range r.IntN(4) {
				o.Except = append(o.Except, name(r.IntN(ids)))
			}
			err := p.do(o)
			if err == nil && i%3 == 0 {
				err = p.model.differs(p.table, p.now)
			}
			if err != nil {
				t.Fatalf("seed %d, after %d, %+v: %v", seed, i, o, err)
			}
		}
	}
}

// TestAgreesWithModelExhaustive tries every sequence of a few calls on two
// sessions and two agents. Every shorter sequence is tried as well, so each is
// compared at its end only.
func TestAgreesWithModelExhaustive(t *testing.T) {
	a, b, step := name(1), name(2), 700*time.Millisecond
	alphabet := []op{
		{Kind: "open", ID: a, Attachment: 1, Incarnation: 1, TTL: 2 * time.Second},
		{Kind: "open", ID: a, Attachment: 1, Incarnation: 2, TTL: 2 * time.Second},
		{Kind: "open", ID: b, Attachment: 1, Incarnation: 1, TTL: time.Second},
		{Kind: "open", ID: b, Attachment: 1, Incarnation: 0, TTL: time.Second},
		{Kind: "confirm", ID: a, Attachment: 1, Incarnation: 1},
		{Kind: "confirm", ID: b, Attachment: 1, Incarnation: 1},
		{Kind: "confirm", ID: a, Attachment: 1, Incarnation: 2},
		{Kind: "beat", Incarnation: 1},
		{Kind: "beat", Incarnation: 1, Except: []ID{a}},
		{Kind: "beat", Incarnation: 1, Step: -2 * step},
		{Kind: "unlink", Incarnation: 1},
		{Kind: "ttl", ID: a, TTL: 3 * time.Second},
		{Kind: "ttl", ID: b, TTL: 500 * time.Millisecond},
		{Kind: "ending", ID: a},
		{Kind: "not ending", ID: a},
		{Kind: "remove", ID: b},
		{Kind: "shift", TTL: 800 * time.Millisecond},
	}
	length := 5
	if testing.Short() {
		length = 4
	}
	for n := 1; n <= length; n++ {
		every(len(alphabet), n, func(which []int) {
			p := newPair()
			for _, i := range which {
				o := alphabet[i]
				o.Step += step
				if err := p.do(o); err != nil {
					t.Fatalf("%v: %v", which, err)
				}
			}
			if err := p.model.differs(p.table, p.now); err != nil {
				t.Fatalf("%v: %v", which, err)
			}
		})
	}
}

// every calls f with each sequence of n numbers below k.
func every(k, n int, f func([]int)) {
	which := make([]int, n)
	for {
		f(which)
		i := n - 1
		for ; i >= 0 && which[i] == k-1; i-- {
			which[i] = 0
		}
		if i < 0 {
			return
		}
		which[i]++
	}
}
