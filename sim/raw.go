package sim

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// errSilent: what was waited for did not come.
var errSilent = errors.New("nothing of the kind came in time")

// RawApp is an application without an SDK: a script sends what it likes, when
// it likes, and looks at everything that came. It beats only when told to.
type RawApp struct {
	*App
	stream *Pipe[*api.SessionRequest, *api.SessionResponse]
	id     [16]byte
	secret [32]byte

	mu  sync.Mutex // guards the rest
	got []*api.SessionResponse
}

// StartRaw starts an application without an SDK and connects its stream.
func (c *Cluster) StartRaw(m *Member, name string) *RawApp {
	r := &RawApp{App: c.StartApp(m, name)}
	rng := c.W.Rand("raw/" + name)
	_, _ = randReader{rng}.Read(r.id[:])
	_, _ = randReader{rng}.Read(r.secret[:])
	r.Connect()
	return r
}

// Connect makes a new stream, beside whatever became of the older one.
func (r *RawApp) Connect() {
	s, err := r.dial(r.ctx)
	if err != nil {
		return
	}
	p := s.(clientStream).p
	r.mu.Lock()
	r.stream = p
	r.mu.Unlock()
	r.owned.Go(func() {
		for {
			m, err := p.Recv()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.got = append(r.got, m)
			r.mu.Unlock()
		}
	})
}

func (r *RawApp) clock() uint64 { return uint64(r.m.Host.Clock()()) }

// Send sends one request as it is.
func (r *RawApp) Send(q *api.SessionRequest) {
	r.mu.Lock()
	p := r.stream
	r.mu.Unlock()
	_ = p.Send(q)
}

func (r *RawApp) SendOpen(seq uint64, ttl time.Duration) {
	r.Send(&api.SessionRequest{Request: &api.SessionRequest_Open{Open: &api.Open{
		Session: r.id[:], Secret: r.secret[:], Seq: seq, TtlNanos: uint64(ttl), ClockNanos: r.clock(),
	}}})
}

// SendResume resumes on the newest stream, with a deadline half a TTL away.
func (r *RawApp) SendResume(seq uint64, ttl time.Duration) {
	r.Send(&api.SessionRequest{Request: &api.SessionRequest_Resume{Resume: &api.Resume{
		Session: r.id[:], Secret: r.secret[:], Seq: seq, TtlNanos: uint64(ttl), ClockNanos: r.clock(),
		DeadlineNanos: r.clock() + uint64(ttl/2),
	}}})
}

// SendJoin joins another scripted application's session.
func (r *RawApp) SendJoin(of *RawApp) {
	r.Send(&api.SessionRequest{Request: &api.SessionRequest_Join{Join: &api.Join{
		Session: of.id[:], Secret: of.secret[:], ClockNanos: r.clock(),
	}}})
}

func (r *RawApp) SendBeat() {
	r.Send(&api.SessionRequest{Request: &api.SessionRequest_Beat{Beat: &api.Beat{ClockNanos: r.clock()}}})
}

func (r *RawApp) SendAcquire(seq uint64, lock string) {
	r.Send(&api.SessionRequest{Request: &api.SessionRequest_Acquire{Acquire: &api.Acquire{Seq: seq, Lock: lock}}})
}

func (r *RawApp) SendCancel(target uint64) {
	r.Send(&api.SessionRequest{Request: &api.SessionRequest_Cancel{Cancel: &api.Cancel{Target: target}}})
}

func (r *RawApp) SendTTL(seq uint64, ttl time.Duration) {
	r.Send(&api.SessionRequest{Request: &api.SessionRequest_SetTtl{SetTtl: &api.SetTTL{Seq: seq, TtlNanos: uint64(ttl)}}})
}

func (r *RawApp) SendReconcile(next uint64, named ...*api.Belief) {
	r.Send(&api.SessionRequest{Request: &api.SessionRequest_Reconcile{Reconcile: &api.Reconcile{Next: next, Named: named}}})
}

// KeepBeating beats every so often until the process is killed.
func (r *RawApp) KeepBeating(every time.Duration) {
	r.owned.Go(func() {
		for r.Alive() {
			r.SendBeat()
			select {
			case <-time.After(every):
			case <-r.ctx.Done():
			}
		}
	})
}

// Got is a copy of all that came, over all streams.
func (r *RawApp) Got() []*api.SessionResponse {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// Await waits for a response that is like what, and returns the first.
func (r *RawApp) Await(within time.Duration, what func(*api.SessionResponse) bool) (*api.SessionResponse, error) {
	for end := r.m.c.W.Now() + within; ; time.Sleep(time.Millisecond) {
		for _, m := range r.Got() {
			if what(m) {
				return m, nil
			}
		}
		if r.m.c.W.Now() > end {
			return nil, errSilent
		}
	}
}

// Attached is like the answer to the open or resume of that sequence.
func Attached(seq uint64) func(*api.SessionResponse) bool {
	return func(m *api.SessionResponse) bool { return m.GetAttached().GetSeq() == seq && m.GetAttached() != nil }
}

// Stands is like an answer or update that says so of the sequence.
func Stands(seq uint64, state api.Standing_State) func(*api.SessionResponse) bool {
	return func(m *api.SessionResponse) bool {
		st := m.GetUpdate().GetStanding()
		if a := m.GetAnswer(); a != nil {
			st = a.Standing
		}
		return st != nil && st.Seq == seq && st.State == state
	}
}

// Standing is the newest word on an acquire, from answers, updates and
// reconciles; nil: none.
func (r *RawApp) Standing(seq uint64) *api.Standing {
	var last *api.Standing
	for _, m := range r.Got() {
		for _, st := range append(m.GetReconciled().GetStandings(), m.GetUpdate().GetStanding(), m.GetAnswer().GetStanding()) {
			if st != nil && st.Seq == seq {
				last = st
			}
		}
	}
	return last
}

// RawAgent speaks the link's protocol by script, from a host of its own.
type RawAgent struct {
	c           *Cluster
	host        *Host
	Incarnation uint64
	number      uint64
	beat        uint64
	id          uint64

	conn     link.UpConn
	mu       sync.Mutex // guards the rest
	got      []*link.Down
	answers  map[uint64]*linkpb.Proposed
	answered uint64 // the highest heartbeat answered
	wg       sync.WaitGroup
}

// StartRawAgent adds a host without an agent.
func (c *Cluster) StartRawAgent(name string) *RawAgent {
	return &RawAgent{c: c, host: c.W.AddHost(name), Incarnation: c.W.Rand("raw/"+name).Uint64() | 1, answers: make(map[uint64]*linkpb.Proposed)}
}

// Link links to the leader, as the next link of the incarnation.
func (r *RawAgent) Link(leader *Member) error {
	r.number++
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, _, err := r.host.Network().Dial(ctx, leader.Host.Addr(), &linkpb.Hello{
		VersionMin: 1, VersionMax: 1, ClusterId: leader.Agent().ClusterID(),
		Agent: r.host.Name, Incarnation: r.Incarnation, Link: r.number,
	})
	if err != nil {
		return err
	}
	r.conn = conn
	r.wg.Go(func() {
		for {
			frames, err := conn.Recv()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.got = append(r.got, frames...)
			for _, f := range frames {
				if p := f.GetProposed(); p != nil {
					r.answers[p.Id] = p
				}
				r.answered = max(r.answered, f.GetBeat().GetNumber())
			}
			r.mu.Unlock()
		}
	})
	return nil
}

// Close ends the link and waits for its reader.
func (r *RawAgent) Close() {
	if r.conn != nil {
		r.conn.Close()
	}
	r.wg.Wait()
}

// Beat sends the next heartbeat and returns its number.
func (r *RawAgent) Beat(except ...[]byte) uint64 {
	r.beat++
	_ = r.conn.Send([]*link.Up{{Frame: &linkpb.Up_Beat{Beat: &linkpb.Beat{Number: r.beat, Except: except}}}})
	return r.beat
}

// Send proposes commands in one batch, without waiting; it returns their ids.
func (r *RawAgent) Send(cs ...*command.Command) []uint64 {
	var batch []*link.Up
	var ids []uint64
	for _, c := range cs {
		r.id++
		ids = append(ids, r.id)
		batch = append(batch, &link.Up{Frame: &linkpb.Up_Propose{Propose: &linkpb.Propose{Id: r.id, Command: c}}})
	}
	_ = r.conn.Send(batch)
	return ids
}

// Do proposes one command and waits for its answer.
func (r *RawAgent) Do(c *command.Command) (*linkpb.Proposed, error) {
	return r.Answer(r.Send(c)[0], 10*time.Second)
}

// Answer waits for a proposal's answer.
func (r *RawAgent) Answer(id uint64, within time.Duration) (*linkpb.Proposed, error) {
	for end := r.c.W.Now() + within; r.c.W.Now() <= end; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		p := r.answers[id]
		r.mu.Unlock()
		if p != nil {
			return p, nil
		}
	}
	return nil, errSilent
}

// Answered reports whether a heartbeat was answered.
func (r *RawAgent) Answered(beat uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answered >= beat
}

// Got is a copy of all that came, over all links.
func (r *RawAgent) Got() []*link.Down {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// Open is an open of a session named by one byte, attached to this agent.
func (r *RawAgent) Open(session byte, seq uint64, ttl time.Duration) *command.Command {
	return &command.Command{Session: rawSession(session), Seq: seq, Kind: &command.Command_Open{Open: &command.Open{
		SecretHash: rawSecret(session), Agent: r.agent(), TtlNanos: uint64(ttl), Identity: "uid:0",
		Process: &command.Process{Id: 1, Pid: int32(session)},
	}}}
}

// Resume attaches it here.
func (r *RawAgent) Resume(session byte, seq uint64) *command.Command {
	return &command.Command{Session: rawSession(session), Seq: seq, Kind: &command.Command_Resume{Resume: &command.Resume{
		SecretHash: rawSecret(session), Agent: r.agent(),
	}}}
}

func (r *RawAgent) agent() *command.Agent {
	return &command.Agent{Name: r.host.Name, Incarnation: r.Incarnation}
}

func rawSession(b byte) []byte { return append(make([]byte, 15), b) }
func rawSecret(b byte) []byte  { return append(make([]byte, 31), b) }

// AcquireFor is an acquire under an attachment.
func AcquireFor(session byte, attachment, seq uint64, lock string) *command.Command {
	return &command.Command{Session: rawSession(session), Attachment: attachment, Seq: seq,
		Kind: &command.Command_Acquire{Acquire: &command.Acquire{Lock: lock}}}
}

// EndFor ends a session by its process's exit.
func EndFor(session byte, attachment uint64) *command.Command {
	return &command.Command{Session: rawSession(session), Attachment: attachment,
		Kind: &command.Command_End{End: &command.End{Reason: command.EndReason_END_REASON_EXITED}}}
}

// ReconcileFor names beliefs.
func ReconcileFor(session byte, attachment, next uint64, named ...*command.Belief) *command.Command {
	return &command.Command{Session: rawSession(session), Attachment: attachment,
		Kind: &command.Command_Reconcile{Reconcile: &command.Reconcile{Next: next, Named: named}}}
}
