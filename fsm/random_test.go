package fsm

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/raftlock/raftlock/fsm/command"
)

// draw returns a number below n. Everything random here comes from one, so that
// the same maker of commands serves rapid, fuzzing and long runs.
type draw func(n int) int

var (
	someSessions = []string{"a", "b", "c", "d"}
	someLocks    = []string{"L", "M", "N"}
	someOwners   = []string{"x", "y", "z"}
	someRequests = []string{"r1", "r2", "r3"}
)

func pick[T any](d draw, from []T) T { return from[d(len(from))] }

// someCommand makes a command that mostly makes sense in s.
func someCommand(d draw, s *State) *command.Command {
	c := &command.Command{}
	session := sessionID(pick(d, someSessions))
	x, alive := s.Session(session)
	c.Session = session[:]
	c.Attachment = x.Attachment
	if d(12) == 0 {
		c.Attachment = uint64(d(6))
	}
	if d(4) == 0 {
		c.AckMark = x.Mark + uint64(d(3))
	}
	if d(4) == 0 {
		c.AckAbove = []uint64{x.Mark + uint64(d(5)), x.Mark + uint64(d(5))}
	}
	seq := x.Mark + uint64(d(7))
	kind := d(20)
	if !alive && d(2) == 0 {
		kind = 0
	}
	if kind > 2 && kind < 12 && seq == 0 {
		seq = 1
	}
	agent := &command.Agent{Name: fmt.Sprint("h", d(2)), Incarnation: 1 + uint64(d(3))}
	secret := secretOf("s")
	if d(10) == 0 {
		secret = secretOf("other")
	}
	process := func() *command.Process {
		p := &command.Process{Id: uint64(d(3))}
		if d(2) == 0 {
			p.Pid, p.StartTicks, p.BootId = int32(1+d(2)), 7, "boot"
		}
		return p
	}
	lock, token := pick(d, someLocks), tokenIn(d, s)
	switch kind {
	case 0, 1:
		c.Seq, c.Attachment = 1+uint64(d(2)), 0
		c.Kind = &command.Command_Open{Open: &command.Open{
			SecretHash: secret, Agent: agent, TtlNanos: command.TTLNanosMin + uint64(d(3)), Process: process(),
			LeaseOnExit: d(2) == 0, Identity: pick(d, someOwners),
		}}
	case 2:
		c.Seq = seq + 1
		c.Kind = &command.Command_Resume{Resume: &command.Resume{SecretHash: secret, Agent: agent}}
	case 3:
		c.Seq = seq
		c.Kind = &command.Command_SetTtl{SetTtl: &command.SetTTL{TtlNanos: command.TTLNanosMin + uint64(d(3))}}
	case 4, 5, 6, 7, 8:
		c.Seq = seq
		c.Kind = &command.Command_Acquire{Acquire: &command.Acquire{
			Lock: lock, Try: d(4) == 0, Priority: int32(d(3)) - 1, Metadata: []*command.Pair{{Key: "k", Value: lock}},
		}}
	case 9, 10:
		hold, held := seq, token
		if l, ok := s.View().Get(lock); ok && d(3) > 0 {
			hold, held, c.Session = l.Seq, l.Holder.Token-uint64(d(5)/4), l.Holder.Session
			if i, _ := s.Session(ID(l.Holder.Session)); d(5) > 0 {
				c.Attachment = i.Attachment
			}
		}
		if d(2) == 0 {
			c.Seq = seq
		}
		c.Kind = &command.Command_Release{Release: &command.Release{Hold: max(1, hold), Token: held, Lost: d(3) == 0}}
	case 11:
		c.Kind = &command.Command_Cancel{Cancel: &command.Cancel{Target: seq}}
	case 12:
		c.Kind = &command.Command_Reconcile{Reconcile: someReconcile(d, s, x)}
	case 13:
		switch d(5) {
		case 0:
			if d(2) == 0 {
				id := PlainID(pick(d, someOwners), lock)
				c.Session, c.Attachment = id[:], 0
			}
			c.Kind = &command.Command_End{End: &command.End{Reason: command.EndReason(1 + d(4))}}
		case 1:
			c.Kind = &command.Command_Join{Join: &command.Join{SecretHash: secret, Process: process()}}
		case 2:
			c.Kind = &command.Command_Leave{Leave: &command.Leave{Process: uint64(d(3))}}
		default:
			c.Kind = &command.Command_Acknowledge{Acknowledge: &command.Acknowledge{}}
		}
	case 14:
		r := &command.Revoke{Lock: lock, Now: d(3) == 0}
		if d(2) == 0 {
			r.Token = token
		}
		c = &command.Command{Kind: &command.Command_Revoke{Revoke: r}}
	case 15:
		c = someAdmin(d)
	default:
		c = somePlain(d, s, lock, token)
	}
	return c
}

func tokenIn(d draw, s *State) uint64 { return s.Token() - min(s.Token(), uint64(d(4))) }

func someReconcile(d draw, s *State, x SessionInfo) *command.Reconcile {
	r := &command.Reconcile{Next: x.Mark + uint64(d(8))}
	for seq := max(1, x.Mark-min(x.Mark, 3)); seq < r.Next; seq++ {
		u := s.use(x.ID, seq)
		switch {
		case d(3) == 0:
		case u != nil && u.kind == useHold && d(4) > 0:
			r.Named = append(r.Named, &command.Belief{Seq: seq, Token: u.token})
		case d(6) == 0:
			r.Named = append(r.Named, &command.Belief{Seq: seq, Token: tokenIn(d, s)})
		default:
			r.Named = append(r.Named, &command.Belief{Seq: seq})
		}
	}
	return r
}

func someAdmin(d draw) *command.Command {
	switch d(12) {
	case 0:
		return &command.Command{}
	case 1:
		return &command.Command{Kind: &command.Command_JumpTokens{JumpTokens: &command.JumpTokens{UnixSeconds: uint64(d(1 << 20))}}}
	case 2:
		return &command.Command{Kind: &command.Command_SetVersion{SetVersion: &command.SetVersion{Version: uint32(d(4))}}}
	}
	return &command.Command{Kind: &command.Command_Establish{Establish: &command.Establish{ClusterId: fmt.Sprint("c", d(2)), ServerId: "s"}}}
}

func somePlain(d draw, s *State, lock string, token uint64) *command.Command {
	owner, ttl := pick(d, someOwners), command.TTLNanosMin+uint64(d(3))
	if l, ok := s.View().Get(lock); ok && l.Plain && d(2) == 0 {
		owner = l.Holder.Owner
		if d(3) > 0 {
			token = l.Holder.Token
		}
	}
	switch d(8) {
	case 0:
		return &command.Command{Kind: &command.Command_PlainRenew{PlainRenew: &command.PlainRenew{Owner: owner, Lock: lock, Token: token, TtlNanos: ttl}}}
	case 1:
		return &command.Command{Kind: &command.Command_PlainRelease{PlainRelease: &command.PlainRelease{Owner: owner, Lock: lock, Token: token}}}
	case 2, 3:
		return &command.Command{Kind: &command.Command_PlainCancel{PlainCancel: &command.PlainCancel{Owner: owner, Lock: lock, RequestId: pick(d, someRequests)}}}
	}
	a := &command.PlainAcquire{Owner: owner, Lock: lock, TtlNanos: ttl, Priority: int32(d(2)), Identity: owner}
	if d(3) > 0 {
		a.RequestId = pick(d, someRequests)
	}
	return &command.Command{Kind: &command.Command_PlainAcquire{PlainAcquire: a}}
}

// pairing drives a state and a model side by side.
type pairing struct {
	t interface {
		Helper()
		Fatalf(string, ...any)
	}
	s *State
	m *model
}

func (p *pairing) step(d draw) {
	p.t.Helper()
	term := uint64(3)
	if d(20) == 0 {
		term = 2
	}
	cs := make([]*command.Command, 1+d(3))
	for i := range cs {
		cs[i] = someCommand(d, p.s)
	}
	data, err := proto.Marshal(&command.Entry{Format: command.FormatEntry, Term: term, Commands: cs})
	if err != nil {
		p.t.Fatalf("marshal: %v", err)
	}
	settled, ok := p.s.Settled(cs[0])
	before, index := p.s.Hash()-hashHeader(&p.s.header), p.s.Index()
	out := p.s.Apply(index+1, 3, data)
	results, events := p.m.apply(3, term, cs)
	if out.Void != (term != 3) || len(out.Results) != len(results) {
		p.t.Fatalf("void %v, %d results, want %d", out.Void, len(out.Results), len(results))
	}
	for i, r := range out.Results {
		r.Detail = ""
		for _, a := range r.Answered {
			a.Result.Detail = ""
		}
		if !proto.Equal(r, results[i]) {
			p.t.Fatalf("command %v\n got  %v\n want %v", cs[i], r, results[i])
		}
		if !slices.Equal(out.Events[i], events[i]) {
			p.t.Fatalf("command %v\n got  %+v\n want %+v", cs[i], out.Events[i], events[i])
		}
	}
	if ok && !out.Void && len(cs) == 1 && cs[0].AckMark == 0 && cs[0].AckAbove == nil {
		p.sameAsSettled(cs[0], settled, out.Results[0], before)
	}
	if err := p.s.Check(); err != nil {
		p.t.Fatalf("after %v: %v", cs, err)
	}
	p.compare()
}

// sameAsSettled: what was settled would have changed nothing and answered so.
func (p *pairing) sameAsSettled(c *command.Command, settled, got *command.Result, before uint64) {
	settled.Detail = ""
	for _, a := range settled.Answered {
		a.Result.Detail = ""
	}
	if !proto.Equal(settled, got) || p.s.Hash()-hashHeader(&p.s.header) != before {
		p.t.Fatalf("%v was settled\n as  %v\n got %v", c, settled, got)
	}
}

// compare looks at all that both show.
func (p *pairing) compare() {
	if p.s.Token() != p.m.token || p.s.Term() != p.m.term || p.s.ClusterID() != p.m.cluster || p.s.Version() != p.m.version {
		p.t.Fatalf("header %+v, model %+v", p.s.header, p.m)
	}
	n := 0
	p.s.Sessions(func(i SessionInfo) bool {
		n++
		x := p.m.sessions[i.ID]
		if x == nil || x.att != i.Attachment || x.inc != i.Incarnation || x.agent != i.Agent || x.ttl != i.TTLNanos ||
			x.mark != i.Mark || i.Answers != len(x.done) || i.Owner != x.owner || i.Lock != x.lock || !slices.Equal(i.Processes, x.processes) {
			p.t.Fatalf("session %+v, model %+v", i, x)
		}
		return true
	})
	v := p.s.View()
	page, _ := v.List(Filter{})
	held, revoked := 0, 0
	for _, c := range p.m.claims {
		st, _ := v.Standing(c.session, c.seq)
		if !proto.Equal(st, p.m.standing(c)) {
			p.t.Fatalf("standing %v, model %v", st, p.m.standing(c))
		}
		if c.token != 0 {
			held++
		}
		if c.revoked {
			revoked++
		}
	}
	p.s.Revoked(func(HoldInfo) bool { revoked--; return true })
	if n != len(p.m.sessions) || len(page) != held || revoked != 0 {
		p.t.Fatalf("%d sessions %d locks, model %d %d; %d revoked missed", n, len(page), len(p.m.sessions), held, revoked)
	}
}

// TestModel: the state machine does what the model does, command by command.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &pairing{t: t, s: New(), m: newModel()}
		d := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "d") }
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			p.step(d)
		}
	})
}

// TestModelLong walks far, where rapid's short stories do not come.
func TestModelLong(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := &pairing{t: t, s: New(), m: newModel()}
		for range 1000 {
			p.step(r.IntN)
		}
	}
}

var million = flag.Bool("million", false, "TestReplicas: a million commands instead of a hundred thousand")

// TestReplicas (I6): of two replicas of one log one is restored from snapshots
// on the way; their hashes are equal at every index, their snapshots at the end
// byte for byte.
func TestReplicas(t *testing.T) {
	commands := 100_000
	if *million {
		commands = 1_000_000
	}
	r := rand.New(rand.NewPCG(7, uint64(commands)))
	one, other := New(), New()
	for done, n := 0, 0; done < commands; done += n {
		n = 1 + r.IntN(8)
		cs := make([]*command.Command, n)
		for i := range cs {
			cs[i] = someCommand(r.IntN, one)
		}
		data := marshal(t, 1, cs...)
		index := one.Index() + 1 + uint64(r.IntN(2))
		a, b := one.Apply(index, 1, data), other.Apply(index, 1, data)
		sameOutcome(t, a, b)
		if one.Hash() != other.Hash() {
			t.Fatalf("index %d: hashes %x and %x after %v", index, one.Hash(), other.Hash(), cs)
		}
		if r.IntN(500) == 0 {
			other = restored(t, other)
		}
	}
	var a, b bytes.Buffer
	if err := one.View().Snapshot(&a); err != nil {
		t.Fatal(err)
	}
	if err := other.View().Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Fatal("snapshots differ")
	}
	if err := one.Check(); err != nil {
		t.Fatal(err)
	}
}

func sameOutcome(t *testing.T, a, b Outcome) {
	t.Helper()
	for i := range a.Results {
		if !proto.Equal(a.Results[i], b.Results[i]) || !slices.Equal(a.Events[i], b.Events[i]) {
			t.Fatalf("index %d: %v and %v", a.Index, a.Results[i], b.Results[i])
		}
	}
}
