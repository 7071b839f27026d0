package agent

import (
	"context"
	"encoding/hex"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
	"github.com/raftlock/raftlock/lease"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
	"github.com/raftlock/raftlock/telemetry/key"
)

// Sweep: how often the leader looks for what expired, how many it ends at
// once, and how long it must have slept before it calls that a pause.
const (
	sweepInterval = 100 * time.Millisecond
	sweepMax      = 256
	// However much is due, the sweeper leaves room for others between looks.
	sweepPause = 2 * time.Millisecond
	pauseMin   = time.Second
)

// leading is the leader's side of one leadership: its leases, its links and
// its sweeper. Nothing of it survives the leadership.
type leading struct {
	l      *consensus.Leadership
	node   *consensus.Node
	term   uint64
	clock  func() time.Duration
	log    *slog.Logger
	tracer trace.Tracer // nil: it makes no spans
	// say logs what is told on the proposer's goroutine: it must not block.
	say func(slog.Level, string, ...any)

	ctx    context.Context // ends with the leadership
	cancel context.CancelFunc
	owned  sync.WaitGroup

	mu    sync.Mutex // guards the rest; taken after the state machine's, before a link's
	table *lease.Table
	links map[uint64]*downlink // by incarnation
	plain map[fsm.ID]map[*downlink]struct{}
	over  bool
	// traces of those that hold and wait.
	traces *holderTraces
}

func newLeading(l *consensus.Leadership, clock func() time.Duration, log *slog.Logger) *leading {
	ctx, cancel := context.WithCancel(context.Background()) // ends in close, which the agent waits for
	return &leading{
		l: l, node: l.Node(), term: l.Term(), clock: clock, log: log.With(key.Term, l.Term()),
		ctx: ctx, cancel: cancel,
		table: lease.New(), links: make(map[uint64]*downlink), plain: make(map[fsm.ID]map[*downlink]struct{}),
		traces: newHolderTraces(),
	}
}

// adopt takes every session of the state as heard of just now.
func (d *leading) adopt(s *fsm.State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock()
	s.Sessions(func(i fsm.SessionInfo) bool {
		d.table.Open(i.ID, i.Attachment, i.Incarnation, time.Duration(i.TTLNanos), now)
		return true
	})
	s.Revoked(func(i fsm.HoldInfo) bool {
		d.table.Revoke(lease.Hold{Session: i.Session, Seq: i.Seq, Token: i.Token}, time.Duration(i.TTLNanos), now)
		return true
	})
}

// close ends every link. It does not wait: wait does.
func (d *leading) close() {
	d.cancel()
	d.mu.Lock()
	d.over = true
	for _, k := range d.links {
		k.close()
	}
	d.mu.Unlock()
}

func (d *leading) wait() { d.owned.Wait() }

// event turns one effect of the log into lease changes and notices. It runs on
// the proposer's goroutine, in log order.
func (d *leading) event(e fsm.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, ttl := d.clock(), time.Duration(e.TTLNanos)
	hold := lease.Hold{Session: e.Session, Seq: e.Seq, Token: e.Token}
	d.traces.event(e)
	switch e.Kind {
	case fsm.EventOpened:
		d.table.Open(e.Session, e.Attachment, e.Incarnation, ttl, now)
	case fsm.EventResumed:
		d.table.Open(e.Session, e.Attachment, e.Incarnation, ttl, now)
		d.notify(e.WasIncarnation, &linkpb.Notice{
			Session: e.Session[:], Attachment: e.WasAttachment, Notice: &linkpb.Notice_Moved{Moved: true},
		})
	case fsm.EventTTL:
		d.table.ChangeTTL(e.Session, ttl, now)
	case fsm.EventRenewed:
		d.table.Renew(e.Session, ttl, now)
	case fsm.EventGranted:
		d.stands(e, &command.Standing{State: command.Standing_STATE_HELD})
	case fsm.EventRevoked:
		d.table.Revoke(hold, ttl, now)
		d.stands(e, &command.Standing{State: command.Standing_STATE_HELD, Revoked: true})
	case fsm.EventGone:
		d.table.Released(hold)
		d.stands(e, &command.Standing{State: command.Standing_STATE_GONE, Gone: e.Gone})
	case fsm.EventEnded:
		d.table.Remove(e.Session)
		d.notify(e.Incarnation, &linkpb.Notice{
			Session: e.Session[:], Attachment: e.Attachment, Notice: &linkpb.Notice_Ended{Ended: e.Reason},
		})
		d.stir(e.Session)
		delete(d.plain, e.Session)
	}
}

func (d *leading) stands(e fsm.Event, st *command.Standing) {
	if e.Incarnation == 0 {
		d.stir(e.Session)
		return
	}
	st.Seq, st.Lock, st.Token = e.Seq, e.Lock, e.Token
	d.notify(e.Incarnation, &linkpb.Notice{
		Session: e.Session[:], Attachment: e.Attachment, Notice: &linkpb.Notice_Standing{Standing: st},
	})
}

// notify queues a notice on the link of an incarnation, if it has one. A grant
// lost with its link is found again by reconciling.
func (d *leading) notify(incarnation uint64, n *linkpb.Notice) {
	if k := d.links[incarnation]; k != nil {
		k.Send(&link.Down{Frame: &linkpb.Down_Notice{Notice: n}})
	}
}

// stir tells the agents whose plain requests wait in a session to ask again.
func (d *leading) stir(id fsm.ID) {
	for k := range d.plain[id] {
		k.Send(&link.Down{Frame: &linkpb.Down_Notice{Notice: &linkpb.Notice{
			Session: id[:], Notice: &linkpb.Notice_Stirred{Stirred: true},
		}}})
	}
}

// sweep ends what expired, until the leadership ends.
func (d *leading) sweep() {
	timer := time.NewTimer(sweepInterval)
	defer timer.Stop()
	last := d.clock()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-timer.C:
		}
		now := d.clock()
		if gap := now - last; gap > pauseMin {
			// This host slept. Heartbeats that arrived meanwhile are still to
			// be read: nobody is judged by a clock that ran alone.
			d.mu.Lock()
			d.table.Shift(gap)
			d.mu.Unlock()
			d.log.Warn("paused; every deadline moved", "gap", gap)
		}
		last = now
		d.expire()
		d.mu.Lock()
		next, some := d.table.Next()
		d.mu.Unlock()
		wait := sweepInterval
		if some {
			wait = min(wait, max(next-d.clock(), 0)+sweepPause)
		}
		timer.Reset(wait)
	}
}

// expire proposes the end of what is past D, after a confirm and another look:
// a heartbeat that came meanwhile saves its sessions.
func (d *leading) expire() {
	d.mu.Lock()
	now := d.clock()
	late := d.table.Expired(now, sweepMax)
	due := len(late) + len(d.table.ExpiredHolds(now, 1))
	d.mu.Unlock()
	if due == 0 {
		return
	}
	if err := d.l.Confirm(d.ctx); err != nil {
		return
	}
	d.mu.Lock()
	now = d.clock()
	expired := d.table.Expired(now, sweepMax)
	if mutant.On("agent-second-look") {
		expired = late
	}
	holds := d.table.ExpiredHolds(now, sweepMax)
	for _, x := range expired {
		d.ending(x)
	}
	for _, x := range holds {
		d.table.Releasing(x)
	}
	d.mu.Unlock()
	for _, x := range expired {
		d.end(x)
	}
	for _, x := range holds {
		d.takeBack(x)
	}
}

// ending stops renewing a session, and says so on its link, before its end is
// proposed. The caller holds mu.
func (d *leading) ending(x lease.Expired) {
	if mutant.On("agent-ending") {
		return
	}
	d.table.Ending(x.ID)
	d.notify(x.Incarnation, &linkpb.Notice{
		Session: x.ID[:], Attachment: x.Attachment, Notice: &linkpb.Notice_Ending{Ending: true},
	})
}

func (d *leading) end(x lease.Expired) {
	c := &command.Command{
		Session: x.ID[:], Attachment: x.Attachment,
		Kind: &command.Command_End{End: &command.End{Reason: command.EndReason_END_REASON_EXPIRED}},
	}
	var plain fsm.SessionInfo // its end forgets whose it was
	if x.Incarnation == 0 && d.log.Enabled(d.ctx, slog.LevelDebug) {
		d.node.Inspect(func(s *fsm.State) { plain, _ = s.Session(x.ID) })
	}
	done := func(r *command.Result, err error) { d.ended(x, plain, r, err) }
	err := d.l.Propose(consensus.Proposal{Command: c, Vital: true, Done: done})
	if err != nil {
		d.mu.Lock()
		d.table.NotEnding(x.ID, d.clock())
		d.mu.Unlock()
	}
}

// ended runs on the proposer's goroutine: a log that nobody takes must stop no
// commit. Only sessions of agents are worth an operator's look: that a plain
// one is not renewed is how its lock is given up, as often as its owners like.
func (d *leading) ended(x lease.Expired, plain fsm.SessionInfo, r *command.Result, err error) {
	switch {
	case err != nil || r.Code != command.Code_CODE_OK:
	case x.Incarnation == 0 && plain.Holds == 0:
		d.say(slog.LevelDebug, "plain wait ran out", key.Term, d.term, key.Lock, plain.Lock, key.Owner, plain.Owner)
	case x.Incarnation == 0:
		d.say(slog.LevelDebug, "plain hold ran out", key.Term, d.term, key.Lock, plain.Lock, key.Owner, plain.Owner)
	default:
		d.say(slog.LevelInfo, "session expired", key.Term, d.term,
			key.Session, hex.EncodeToString(x.ID[:]), key.Attachment, x.Attachment)
	}
}

// takeBack releases a revoked hold whose last possible V has passed.
func (d *leading) takeBack(x lease.Hold) {
	var attachment uint64
	d.node.Inspect(func(s *fsm.State) {
		if i, ok := s.Session(x.Session); ok {
			attachment = i.Attachment
		}
	})
	c := &command.Command{
		Session: x.Session[:], Attachment: attachment,
		Kind: &command.Command_Release{Release: &command.Release{Hold: x.Seq, Token: x.Token}},
	}
	over := func(again bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if again {
			d.table.NotReleasing(x)
		} else {
			d.table.Released(x)
		}
	}
	err := d.l.Propose(consensus.Proposal{Command: c, Vital: true, Done: func(r *command.Result, err error) {
		if err == nil {
			// Moved meanwhile: its D has passed all the same.
			over(r.Code == command.Code_CODE_SUPERSEDED)
		}
	}})
	if err != nil {
		over(true)
	}
}

// admit answers what need not be logged: a reconcile that changes nothing, and
// the end of a session that the log renewed after it was proposed.
func (d *leading) admit(c *command.Command, s *fsm.State, touched bool) *command.Result {
	if c.GetReconcile() != nil && !touched {
		if r, ok := s.Settled(c); ok {
			return r
		}
	}
	if c.GetEnd().GetReason() == command.EndReason_END_REASON_EXPIRED && !mutant.On("agent-may-end") {
		return d.withdraw(fsm.ID(c.Session), touched)
	}
	return nil
}

// withdraw takes back an expiry that the log has overtaken: a renewal of a
// plain session or a change of TTL was applied, and answered, after its end
// was proposed; the answer moved the holder's V.
func (d *leading) withdraw(id fsm.ID, touched bool) *command.Result {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !touched && d.table.MayEnd(id) {
		return nil
	}
	d.table.NotEnding(id, d.clock())
	return &command.Result{Code: command.Code_CODE_SUPERSEDED, Detail: "renewed meanwhile"}
}
