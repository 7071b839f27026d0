package fsm

import (
	"fmt"
	"testing"

	"github.com/raftlock/raftlock/fsm/command"
)

// apply1 applies one command and returns its answer.
func apply1(t testing.TB, s *State, c *command.Command) *command.Result {
	t.Helper()
	o := s.Apply(s.Index()+1, 1, marshal(t, 1, c))
	if o.Void {
		t.Fatal("void")
	}
	return o.Results[0]
}

func openCommand(name, identity string) *command.Command {
	id := sessionID(name)
	return &command.Command{Session: id[:], Seq: 1, Kind: &command.Command_Open{Open: &command.Open{
		SecretHash: secretOf("s"), Agent: &command.Agent{Name: "h", Incarnation: 1}, TtlNanos: command.TTLNanosMin, Identity: identity,
	}}}
}

func opened(t testing.TB, s *State, name string) ID {
	t.Helper()
	if r := apply1(t, s, openCommand(name, "i")); r.Code != command.Code_CODE_OK {
		t.Fatal(r)
	}
	return sessionID(name)
}

func attachedTo(s *State, id ID, seq uint64) *command.Command {
	x, _ := s.Session(id)
	return &command.Command{Session: id[:], Attachment: x.Attachment, Seq: seq}
}

func acquireCommand(s *State, id ID, seq uint64, name string) *command.Command {
	c := attachedTo(s, id, seq)
	c.Kind = &command.Command_Acquire{Acquire: &command.Acquire{Lock: name}}
	return c
}

func cancelCommand(s *State, id ID, target uint64) *command.Command {
	c := attachedTo(s, id, 0)
	c.Kind = &command.Command_Cancel{Cancel: &command.Cancel{Target: target}}
	return c
}

func releaseCommand(s *State, id ID, seq, hold, token uint64) *command.Command {
	c := attachedTo(s, id, seq)
	c.Kind = &command.Command_Release{Release: &command.Release{Hold: hold, Token: token}}
	return c
}

func resumeCommand(id ID, seq uint64) *command.Command {
	return &command.Command{Session: id[:], Seq: seq, Kind: &command.Command_Resume{Resume: &command.Resume{
		SecretHash: secretOf("s"), Agent: &command.Agent{Name: "h", Incarnation: 2},
	}}}
}

func wantCode(t *testing.T, r *command.Result, want command.Code) {
	t.Helper()
	if r.Code != want {
		t.Fatalf("got %v, want %v", r, want)
	}
}

func checked(t *testing.T, s *State) {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	restored(t, s)
}

func TestLimitClaims(t *testing.T) {
	s := New()
	id := opened(t, s, "a")
	for i := range uint64(command.ClaimsMax) {
		wantCode(t, apply1(t, s, acquireCommand(s, id, 2+i, fmt.Sprint(i/2))), command.Code_CODE_OK)
	}
	hash := s.session(id).claims()
	over := acquireCommand(s, id, 9000, "free")
	r := apply1(t, s, over)
	wantCode(t, r, command.Code_CODE_LIMIT)
	if r.Standings[0].Gone != command.Gone_GONE_LIMIT || s.session(id).claims() != hash {
		t.Fatalf("got %v", r)
	}
	// A late copy must not take what its client was refused.
	wantCode(t, apply1(t, s, releaseCommand(s, id, 9001, 2, 1)), command.Code_CODE_OK)
	r = apply1(t, s, over)
	wantCode(t, r, command.Code_CODE_LIMIT)
	checked(t, s)
}

// TestLimitAnswers walks through the bounds on what is not acknowledged.
func TestLimitAnswers(t *testing.T) {
	s := New()
	id := opened(t, s, "a")
	apply1(t, s, acquireCommand(s, id, 2, "L"))
	seq := uint64(100)
	upTo := func(n uint32) {
		for s.session(id).answers < n {
			seq++
			wantCode(t, apply1(t, s, cancelCommand(s, id, seq)), command.Code_CODE_OK)
		}
	}
	upTo(command.AnswersMax)
	ttl := attachedTo(s, id, 3)
	ttl.Kind = &command.Command_SetTtl{SetTtl: &command.SetTTL{TtlNanos: command.TTLNanosMin}}
	wantCode(t, apply1(t, s, ttl), command.Code_CODE_LIMIT)
	wantCode(t, apply1(t, s, acquireCommand(s, id, 4, "M")), command.Code_CODE_LIMIT)
	if s.use(id, 4) != nil {
		t.Fatal("a refusal for want of room was recorded")
	}
	wantCode(t, apply1(t, s, resumeCommand(id, 5)), command.Code_CODE_OK)

	upTo(command.AnswersHardMax)
	wantCode(t, apply1(t, s, cancelCommand(s, id, seq+1)), command.Code_CODE_LIMIT)
	wantCode(t, apply1(t, s, cancelCommand(s, id, seq)), command.Code_CODE_OK)
	release := releaseCommand(s, id, 6, 2, 1)
	wantCode(t, apply1(t, s, release), command.Code_CODE_OK)
	if s.use(id, 6) != nil {
		t.Fatal("the release's answer was cached")
	}
	wantCode(t, apply1(t, s, release), command.Code_CODE_NOT_HELD)

	for s.session(id).answers < command.AnswersResumeMax {
		seq++
		wantCode(t, apply1(t, s, resumeCommand(id, seq)), command.Code_CODE_OK)
	}
	wantCode(t, apply1(t, s, resumeCommand(id, seq+1)), command.Code_CODE_LIMIT)
	// Acknowledging frees it all, within a refused command even.
	again := resumeCommand(id, seq+1)
	again.AckMark = seq
	wantCode(t, apply1(t, s, again), command.Code_CODE_OK)
	checked(t, s)
}

func TestLimitSingles(t *testing.T) {
	s := New()
	id := opened(t, s, "a")
	for i := range uint64(command.SinglesMax + 10) {
		c := attachedTo(s, id, 0)
		c.AckAbove = []uint64{10 + i}
		c.Kind = &command.Command_Acknowledge{Acknowledge: &command.Acknowledge{}}
		wantCode(t, apply1(t, s, c), command.Code_CODE_OK)
	}
	if n := s.session(id).singles; n != command.SinglesMax {
		t.Fatalf("%d singles", n)
	}
	// What was not taken in counts as not acknowledged.
	wantCode(t, apply1(t, s, acquireCommand(s, id, 10, "L")), command.Code_CODE_STALE_SEQUENCE)
	wantCode(t, apply1(t, s, acquireCommand(s, id, 10+command.SinglesMax, "L")), command.Code_CODE_OK)
	checked(t, s)
}

func TestLimitSessions(t *testing.T) {
	s := New()
	s.identities["i"] = command.SessionsMax
	wantCode(t, apply1(t, s, openCommand("a", "i")), command.Code_CODE_LIMIT)
	wantCode(t, apply1(t, s, openCommand("a", "j")), command.Code_CODE_OK)
	plain := &command.Command{Kind: &command.Command_PlainAcquire{PlainAcquire: &command.PlainAcquire{
		Owner: "o", Lock: "L", TtlNanos: command.TTLNanosMin, Identity: "i",
	}}}
	wantCode(t, apply1(t, s, plain), command.Code_CODE_LIMIT)
}

func TestLimitWaiters(t *testing.T) {
	s := New()
	id := opened(t, s, "a")
	apply1(t, s, acquireCommand(s, id, 2, "L"))
	l, _ := s.lock("L")
	l.waiters = command.WaitersMax
	s.locks.Set(l)
	wantCode(t, apply1(t, s, acquireCommand(s, id, 3, "L")), command.Code_CODE_LIMIT)
	plain := &command.Command{Kind: &command.Command_PlainAcquire{PlainAcquire: &command.PlainAcquire{
		Owner: "o", Lock: "L", TtlNanos: command.TTLNanosMin, Identity: "i", RequestId: "r",
	}}}
	wantCode(t, apply1(t, s, plain), command.Code_CODE_LIMIT)
	// The bound is of one lock.
	wantCode(t, apply1(t, s, acquireCommand(s, id, 4, "M")), command.Code_CODE_OK)
}

// TestLimitTokens: nobody new is taken near the end of the tokens, and those
// who wait are still granted.
func TestLimitTokens(t *testing.T) {
	s := New()
	id := opened(t, s, "a")
	apply1(t, s, acquireCommand(s, id, 2, "L"))
	apply1(t, s, acquireCommand(s, id, 3, "L"))
	s.token = command.TokenLimit - command.TokenReserve
	wantCode(t, apply1(t, s, acquireCommand(s, id, 4, "L")), command.Code_CODE_LIMIT)
	wantCode(t, apply1(t, s, acquireCommand(s, id, 5, "M")), command.Code_CODE_LIMIT)
	wantCode(t, apply1(t, s, releaseCommand(s, id, 6, 2, 1)), command.Code_CODE_OK)
	if u := s.use(id, 3); u.kind != useHold {
		t.Fatal("the waiting one was not granted")
	}
	jump := &command.Command{Kind: &command.Command_JumpTokens{JumpTokens: &command.JumpTokens{}}}
	wantCode(t, apply1(t, s, jump), command.Code_CODE_INVALID)
	checked(t, s)
}

func TestLimitProcesses(t *testing.T) {
	s := New()
	id := opened(t, s, "a")
	join := func(n uint64) *command.Result {
		return apply1(t, s, &command.Command{Session: id[:], Kind: &command.Command_Join{Join: &command.Join{
			SecretHash: secretOf("s"), Process: &command.Process{Id: n},
		}}})
	}
	for i := range uint64(command.ProcessesMax) {
		wantCode(t, join(i), command.Code_CODE_OK)
	}
	wantCode(t, join(1000), command.Code_CODE_LIMIT)
	wantCode(t, join(0), command.Code_CODE_OK)
	checked(t, s)
}

// TestLimitPlainRequests: waits are refused, a hold is claimed instead.
func TestLimitPlainRequests(t *testing.T) {
	s := New()
	acquire := func(owner string, n int) *command.Result {
		return apply1(t, s, &command.Command{Kind: &command.Command_PlainAcquire{PlainAcquire: &command.PlainAcquire{
			Owner: owner, Lock: "L", TtlNanos: command.TTLNanosMin, Identity: "i", RequestId: fmt.Sprint("r", n),
		}}})
	}
	for i := range command.PlainRequestsMax {
		wantCode(t, acquire("holds", i), command.Code_CODE_OK)
		wantCode(t, acquire("waits", i), command.Code_CODE_OK)
	}
	wantCode(t, acquire("waits", 1000), command.Code_CODE_LIMIT)
	wantCode(t, acquire("holds", 1000), command.Code_CODE_OK)
	l, _ := s.lock("L")
	if !l.holder.claimed {
		t.Fatal("the hold is not claimed")
	}
	checked(t, s)
}

// TestPlainIDTaken: a client that squats on a plain id is told apart.
func TestPlainIDTaken(t *testing.T) {
	s := New()
	id := PlainID("o", "L")
	c := openCommand("x", "i")
	c.Session = id[:]
	wantCode(t, apply1(t, s, c), command.Code_CODE_OK)
	wantCode(t, apply1(t, s, acquireCommand(s, id, 2, "L")), command.Code_CODE_OK)
	acquire := &command.Command{Kind: &command.Command_PlainAcquire{PlainAcquire: &command.PlainAcquire{
		Owner: "o", Lock: "L", TtlNanos: command.TTLNanosMin, Identity: "i",
	}}}
	wantCode(t, apply1(t, s, acquire), command.Code_CODE_EXISTS)
	renew := &command.Command{Kind: &command.Command_PlainRenew{PlainRenew: &command.PlainRenew{
		Owner: "o", Lock: "L", Token: 1, TtlNanos: command.TTLNanosMin,
	}}}
	wantCode(t, apply1(t, s, renew), command.Code_CODE_NOT_OWNER)
	cancel := &command.Command{Kind: &command.Command_PlainCancel{PlainCancel: &command.PlainCancel{Owner: "o", Lock: "L", RequestId: "r"}}}
	wantCode(t, apply1(t, s, cancel), command.Code_CODE_NOT_WAITING)
	end := attachedTo(s, id, 0)
	end.Kind = &command.Command_End{End: &command.End{}}
	wantCode(t, apply1(t, s, end), command.Code_CODE_OK)

	// And the other way: nobody opens, resumes or uses a plain session.
	wantCode(t, apply1(t, s, acquire), command.Code_CODE_OK)
	wantCode(t, apply1(t, s, c), command.Code_CODE_EXISTS)
	wantCode(t, apply1(t, s, resumeCommand(id, 2)), command.Code_CODE_NO_SESSION)
	wantCode(t, apply1(t, s, acquireCommand(s, id, 3, "M")), command.Code_CODE_INVALID)
	wantCode(t, apply1(t, s, releaseCommand(s, id, 3, 1, 2)), command.Code_CODE_INVALID)
	checked(t, s)
}

func TestVoidEntries(t *testing.T) {
	many := make([]*command.Command, command.EntryCommandsMax+1)
	for i := range many {
		many[i] = openCommand(fmt.Sprint(i), "i")
	}
	good := marshal(t, 1, many[0])
	for name, data := range map[string][]byte{
		"undecodable":       {0xff, 0xff},
		"format":            {8, 2},
		"nothing":           nil,
		"too many commands": marshal(t, 1, many...),
		"too large":         append(make([]byte, command.EntryBytesMax), good...),
		"another term":      marshal(t, 2, many[0]),
	} {
		t.Run(name, func(t *testing.T) {
			s := New()
			o := s.Apply(5, 1, data)
			if !o.Void || o.Index != 5 || s.Index() != 5 || len(o.Results) != 0 || s.sessions.Len() != 0 {
				t.Fatalf("got %+v, index %d", o, s.Index())
			}
			if o := s.Apply(5, 1, good); !o.Void || s.sessions.Len() != 0 {
				t.Fatal("an index was applied twice")
			}
			checked(t, s)
		})
	}
}

// TestInvalidChangesNothing: not even what it acknowledges.
func TestInvalidChangesNothing(t *testing.T) {
	s := New()
	id := opened(t, s, "a")
	c := acquireCommand(s, id, 2, "bad\x00name")
	c.AckMark = 1
	before := s.sum
	wantCode(t, apply1(t, s, c), command.Code_CODE_INVALID)
	if s.sum != before {
		t.Fatal("the state changed")
	}
}

func TestSessionInfo(t *testing.T) {
	y := doing(t, "open a process=4 pid=1 start=2 boot=x lease-on-exit ttl=5s", "acquire a 2 L", "acquire a 3 L")
	i, ok := y.s.Session(sessionID("a"))
	want := Process{PID: 1, StartTicks: 2, BootID: "x", ID: 4, Opener: true}
	if !ok || !i.LeaseOnExit || i.Holds != 1 || i.Waits != 1 || i.Answers != 1 || i.TTLNanos != nanos("5s") ||
		len(i.Processes) != 1 || i.Processes[0] != want || i.Identity != "uid:1000" || string(i.SecretHash[:]) != string(secretOf("a")) {
		t.Fatalf("got %+v", i)
	}
}
