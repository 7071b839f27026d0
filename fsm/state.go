package fsm

import (
	"google.golang.org/protobuf/proto"

	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

// State is the lock state machine. It belongs to one goroutine at a time.
type State struct {
	header
	tables
	// identities counts the sessions of each; an index, never walked in order.
	identities map[string]uint32
	revoked    int

	// sum is the hash of all sessions and uses: a sum, so that it can be kept
	// up while they come and go in any order.
	sum uint64
	// dirty are the sessions that this entry changed; their hashes are out of
	// sum until it is done.
	dirty []*session
	// epoch rises with each view: sessions of an older one are copied first.
	epoch  uint64
	events []Event
}

// New returns the state before any entry.
func New() *State {
	return &State{
		header:     header{version: command.VersionFirst},
		tables:     newTables(),
		identities: map[string]uint32{},
	}
}

// Apply applies one log entry: data is a marshalled command.Entry that the log
// holds at index, stored there under term. Indexes must rise; one at or below
// Index is void and changes nothing, so repeating is safe. An entry that is
// undecodable, out of bounds, of another format or made under another term is
// void as well, and changes nothing but Index. It never panics on input.
func (s *State) Apply(index, term uint64, data []byte) Outcome {
	out := Outcome{Index: index, Void: true}
	if index <= s.index {
		return out
	}
	s.index = index
	entry := decode(data)
	if entry == nil || entry.Term != term && !mutant.On("fsm-term") {
		return out
	}
	out.Void = false
	out.Results = make([]*command.Result, len(entry.Commands))
	out.Events = make([][]Event, len(entry.Commands))
	for i, c := range entry.Commands {
		s.events = nil
		out.Results[i] = s.command(term, c)
		out.Events[i] = s.events
	}
	s.events = nil
	s.clean()
	return out
}

func decode(data []byte) *command.Entry {
	if len(data) > command.EntryBytesMax {
		return nil
	}
	var e command.Entry
	if err := proto.Unmarshal(data, &e); err != nil {
		return nil
	}
	if e.Format != command.FormatEntry || len(e.Commands) > command.EntryCommandsMax {
		return nil
	}
	return &e
}

// command gives one command its effect and its answer.
func (s *State) command(term uint64, c *command.Command) *command.Result {
	if command.KindVersion(c) > s.version {
		return refuse(command.Code_CODE_UNKNOWN_KIND, "the cluster's version does not know this kind of command")
	}
	if complaint := command.Valid(c); complaint != "" {
		return refuse(command.Code_CODE_INVALID, complaint)
	}
	switch k := c.Kind.(type) {
	case *command.Command_Establish:
		return s.establish(term, k.Establish)
	case *command.Command_JumpTokens:
		return s.jumpTokens(k.JumpTokens)
	case *command.Command_SetVersion:
		return s.setVersion(k.SetVersion)
	case *command.Command_Revoke:
		return s.revoke(k.Revoke)
	case *command.Command_PlainAcquire:
		return s.plainAcquire(k.PlainAcquire)
	case *command.Command_PlainRenew:
		return s.plainRenew(k.PlainRenew)
	case *command.Command_PlainRelease:
		return s.plainRelease(k.PlainRelease)
	case *command.Command_PlainCancel:
		return s.plainCancel(k.PlainCancel)
	case *command.Command_Open:
		return s.open(c, k.Open)
	case *command.Command_Resume:
		return s.resume(c, k.Resume)
	case *command.Command_Join:
		return s.join(c, k.Join)
	default:
		return s.attached(c)
	}
}

// attached handles the kinds that name an attachment.
func (s *State) attached(c *command.Command) *command.Result {
	x := s.session(ID(c.Session))
	if r := refuseAttached(x, c); r != nil {
		return r
	}
	x = s.touch(x)
	s.acknowledge(x, c.AckMark, c.AckAbove)
	switch k := c.Kind.(type) {
	case *command.Command_SetTtl:
		return s.setTTL(x, c.Seq, k.SetTtl)
	case *command.Command_Acquire:
		return s.acquire(x, c.Seq, k.Acquire)
	case *command.Command_Release:
		return s.release(x, c.Seq, k.Release)
	case *command.Command_Cancel:
		return s.cancel(x, k.Cancel.GetTarget())
	case *command.Command_End:
		s.end(x, k.End.GetReason())
	case *command.Command_Reconcile:
		return s.reconcile(x, k.Reconcile)
	case *command.Command_Leave:
		return s.leave(x, k.Leave.GetProcess())
	}
	return ok()
}

// refuseAttached is the check before any effect, acknowledgement included: a
// command of another attachment must not touch the session (I8).
func refuseAttached(x *session, c *command.Command) *command.Result {
	if x == nil {
		return refuse(command.Code_CODE_NO_SESSION, "no such session: open a new one")
	}
	if x.attachment != c.Attachment && !mutant.On("fsm-attachment") {
		return refuse(command.Code_CODE_SUPERSEDED, "the session is attached elsewhere now")
	}
	if x.plain == nil {
		return nil
	}
	switch c.Kind.(type) {
	case *command.Command_End:
		return nil
	case *command.Command_Release:
		if c.Seq == 0 {
			return nil
		}
	}
	return refuse(command.Code_CODE_INVALID, "session: belongs to plain requests, which name owner and lock")
}

func ok() *command.Result { return &command.Result{Code: command.Code_CODE_OK} }

func refuse(code command.Code, detail string) *command.Result {
	return &command.Result{Code: code, Detail: detail}
}

func (s *State) emit(e Event) { s.events = append(s.events, e) }

// Index returns the index of the last entry applied, void ones included.
func (s *State) Index() uint64 { return s.index }

// Term returns the term of the last Establish applied: the leadership whose
// entries are not void.
func (s *State) Term() uint64 { return s.term }

// ClusterID returns the cluster's id; "" before the first Establish.
func (s *State) ClusterID() string { return s.clusterID }

// Version returns the cluster's version.
func (s *State) Version() uint32 { return s.version }

// Token returns the token counter: the last token given out.
func (s *State) Token() uint64 { return s.token }

// Session describes one session.
func (s *State) Session(id ID) (SessionInfo, bool) {
	x := s.session(id)
	if x == nil {
		return SessionInfo{}, false
	}
	return x.info(), true
}

// Sessions calls f for every session, by id, until f says no. f must not apply.
func (s *State) Sessions(f func(SessionInfo) bool) {
	s.sessions.Scan(func(x *session) bool { return f(x.info()) })
}

// HoldInfo describes one hold.
type HoldInfo struct {
	Session     ID
	Attachment  uint64
	Incarnation uint64
	// Seq names the hold in its session; of a plain one it is internal, and
	// good for a Release with sequence 0 alone.
	Seq      uint64
	Token    uint64
	Lock     string
	TTLNanos uint64
}

// Revoked calls f for every hold that is marked for giving up, by lock, until
// f says no. f must not apply. It walks all locks when there is one: for the
// start of a leadership, not for each beat.
func (s *State) Revoked(f func(HoldInfo) bool) {
	left := s.revoked
	if left == 0 {
		return
	}
	s.locks.Scan(func(l lock) bool {
		if !l.holder.revoked {
			return true
		}
		left--
		x := s.session(l.holder.session)
		return f(HoldInfo{
			Session: x.id, Attachment: x.attachment, Incarnation: x.incarnation,
			Seq: l.holder.seq, Token: l.holder.token, Lock: l.name, TTLNanos: x.ttl,
		}) && left > 0
	})
}
