package agent

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// queriesMax bounds the reads under way of one link. Those that serve releases
// and renewals have as many again for themselves.
const queriesMax = 256

// downlink is the leader's end of one agent's link. Everything it sends passes
// through one queue, in log order.
type downlink struct {
	d                  *leading
	conn               link.DownConn
	hello              *linkpb.Hello
	outbox[*link.Down] // its mutex is taken after leading.mu

	beat    atomic.Uint64 // the newest beat that awaits a confirm
	beaten  chan struct{} // capacity 1: beat was set
	queries chan struct{} // one slot a read under way
	upkeep  chan struct{} // and one that serves a release or renewal
}

// serve runs one link until it breaks, is replaced, or the leadership ends.
func (d *leading) serve(hello *linkpb.Hello, conn link.DownConn) {
	k := &downlink{
		d: d, conn: conn, hello: hello,
		outbox:  outbox[*link.Down]{conn: conn, ready: make(chan struct{}, 1), done: make(chan struct{})},
		beaten:  make(chan struct{}, 1),
		queries: make(chan struct{}, queriesMax),
		upkeep:  make(chan struct{}, queriesMax),
	}
	if !d.register(k) {
		conn.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(k.write)
	both.Go(k.confirm)
	k.read()
	d.unregister(k)
	both.Wait()
}

// register makes k its incarnation's link. Frames of the older one are dropped
// unread, and nothing is confirmed on the new one yet.
func (d *leading) register(k *downlink) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return false
	}
	if old := d.links[k.hello.Incarnation]; old != nil {
		if old.hello.Link >= k.hello.Link {
			return false
		}
		old.close()
		d.forget(old)
	}
	d.links[k.hello.Incarnation] = k
	if !mutant.On("agent-unlink") {
		d.table.Unlink(k.hello.Incarnation)
	}
	return true
}

func (d *leading) unregister(k *downlink) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k.close()
	d.forget(k)
	if d.links[k.hello.Incarnation] == k {
		delete(d.links, k.hello.Incarnation)
		d.table.Unlink(k.hello.Incarnation)
	}
}

func (d *leading) forget(k *downlink) {
	for id, waiting := range d.plain {
		delete(waiting, k)
		if len(waiting) == 0 {
			delete(d.plain, id)
		}
	}
}

// read takes frames and never blocks on anything but the connection.
func (k *downlink) read() {
	for {
		frames, err := k.conn.Recv()
		if err != nil {
			return
		}
		for _, f := range frames {
			if !k.take(f) {
				return
			}
		}
	}
}

func (k *downlink) take(f *link.Up) bool {
	switch f := f.Frame.(type) {
	case *linkpb.Up_Beat:
		return k.beatArrived(f.Beat)
	case *linkpb.Up_Propose:
		return k.proposed(f.Propose)
	case *linkpb.Up_Query:
		return k.query(f.Query)
	}
	return false
}

// beatArrived stamps the beat and moves its agent's base, before any answer.
func (k *downlink) beatArrived(b *linkpb.Beat) bool {
	d := k.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.links[k.hello.Incarnation] != k {
		return false
	}
	except := make([]fsm.ID, 0, len(b.Except))
	for _, id := range b.Except {
		if len(id) == 16 {
			except = append(except, fsm.ID(id))
		}
	}
	d.table.Beat(k.hello.Incarnation, d.clock(), except)
	k.beat.Store(b.Number)
	signal(k.beaten)
	return true
}

// confirm answers beats, each only after a proof that this leadership still
// led after the beat arrived.
func (k *downlink) confirm() {
	for {
		select {
		case <-k.beaten:
		case <-k.done:
			return
		}
		number := k.beat.Load()
		if err := k.d.l.Confirm(k.d.ctx); err != nil {
			continue // unanswered: the agent looks for another leader
		}
		k.Send(&link.Down{Frame: &linkpb.Down_Beat{Beat: &linkpb.BeatAnswer{Number: number, Applied: k.d.node.AppliedIndex()}}})
	}
}

// proposed queues a command. What is refused is answered at once.
func (k *downlink) proposed(p *linkpb.Propose) bool {
	c := p.Command
	if c == nil {
		return false
	}
	if a := agentOf(c); a != nil && a.Incarnation != k.hello.Incarnation {
		return false // an agent attaches sessions to itself only
	}
	if complaint := command.Valid(c); complaint != "" {
		// Not only useless: one string that is not UTF-8 spoils its whole entry.
		k.Send(proposedFrame(&linkpb.Proposed{Id: p.Id, Outcome: linkpb.Proposed_OUTCOME_APPLIED, Result: &command.Result{
			Code: command.Code_CODE_INVALID, Detail: complaint,
		}}))
		return true
	}
	t := k.d.traceOf(p)
	proposal := consensus.Proposal{
		Command: c, Vital: vital(c), Span: t.span(),
		Done: func(r *command.Result, err error) { t.over(r, err); k.answer(p.Id, c, r, err, t) },
	}
	err := k.propose(proposal)
	for errors.Is(err, consensus.ErrQueueFull) && mutant.On("agent-reader-blocks") {
		time.Sleep(time.Millisecond)
		err = k.propose(proposal)
	}
	if err != nil {
		t.over(nil, err)
	}
	switch {
	case err == nil:
	case errors.Is(err, consensus.ErrQueueFull):
		k.Send(proposedFrame(&linkpb.Proposed{Id: p.Id, Outcome: linkpb.Proposed_OUTCOME_QUEUE_FULL}))
	case errors.Is(err, consensus.ErrTooLarge):
		k.Send(proposedFrame(&linkpb.Proposed{Id: p.Id, Outcome: linkpb.Proposed_OUTCOME_APPLIED, Result: &command.Result{
			Code: command.Code_CODE_INVALID, Detail: "the request is larger than a log entry may be",
		}}))
	default:
		return false
	}
	return true
}

func proposedFrame(f *linkpb.Proposed) *link.Down {
	return &link.Down{Frame: &linkpb.Down_Proposed{Proposed: f}}
}

// propose queues a command, unless the agent has replaced the link: its next
// link's list may have left out what this one still carries.
func (k *downlink) propose(p consensus.Proposal) error {
	k.d.mu.Lock()
	defer k.d.mu.Unlock()
	if k.d.links[k.hello.Incarnation] != k && !mutant.On("agent-replaced") {
		return errReplaced
	}
	return k.d.l.Propose(p)
}

// errReplaced: a newer link of the same incarnation took this one's place.
var errReplaced = errors.New("link replaced")

// answer sends a proposal's result, and says whether this link's beats speak
// for the session from here on. It runs on the proposer's goroutine.
func (k *downlink) answer(id uint64, c *command.Command, r *command.Result, err error, t *traced) {
	d := k.d
	var by *command.Holder
	if err == nil {
		by = d.inTheWay(c, r, t)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		k.Send(proposedFrame(&linkpb.Proposed{Id: id, Outcome: linkpb.Proposed_OUTCOME_UNKNOWN}))
		return
	}
	f := &linkpb.Proposed{Id: id, Outcome: linkpb.Proposed_OUTCOME_APPLIED, Result: r}
	d.traces.remember(c, r, t)
	if by != nil {
		f.HeldBy, f.Holder = by, d.traces.of(lockOf(c), by.Token)
	}
	if d.links[k.hello.Incarnation] == k && r.Code == command.Code_CODE_OK && len(c.Session) == 16 {
		switch {
		case c.GetOpen() != nil || c.GetResume() != nil:
			f.Confirmed = d.table.Confirm(fsm.ID(c.Session), r.Attachment, k.hello.Incarnation)
		case c.GetReconcile() != nil:
			f.Confirmed = d.table.Confirm(fsm.ID(c.Session), c.Attachment, k.hello.Incarnation)
		}
	}
	if p := c.GetPlainAcquire(); p != nil && waits(r) {
		k.watchPlain(p)
	}
	k.Send(proposedFrame(f))
}

// watchPlain remembers that this link's agent waits in a plain session.
func (k *downlink) watchPlain(p *command.PlainAcquire) {
	id := fsm.PlainID(p.Owner, p.Lock)
	if k.d.plain[id] == nil {
		k.d.plain[id] = make(map[*downlink]struct{})
	}
	k.d.plain[id][k] = struct{}{}
}

// agentOf is the agent that an open or resume names.
func agentOf(c *command.Command) *command.Agent {
	if o := c.GetOpen(); o != nil {
		return o.GetAgent()
	}
	return c.GetResume().GetAgent()
}

// vital commands are never refused for load: without them nothing gets better.
func vital(c *command.Command) bool {
	switch c.Kind.(type) {
	case *command.Command_Release, *command.Command_Cancel, *command.Command_End, *command.Command_Leave,
		*command.Command_Reconcile, *command.Command_Acknowledge, *command.Command_PlainRelease, *command.Command_PlainCancel:
		return true
	}
	return false
}

// query reads on a goroutine of its own: a confirm takes a round trip.
func (k *downlink) query(q *linkpb.Query) bool {
	slots := k.queries
	if q.Upkeep && !mutant.On("agent-upkeep") {
		slots = k.upkeep
	}
	select {
	case slots <- struct{}{}:
	default:
		k.Send(queryFrame(&linkpb.QueryAnswer{Id: q.Id, Detail: "too many reads under way"}))
		return true
	}
	k.d.mu.Lock()
	over := k.d.over
	if !over {
		k.d.owned.Go(func() {
			defer func() { <-slots }()
			a := answerQuery(k.d.ctx, k.d.node, q)
			k.d.tellLeases(a)
			k.Send(queryFrame(a))
		})
	}
	k.d.mu.Unlock()
	return !over
}

func queryFrame(a *linkpb.QueryAnswer) *link.Down {
	return &link.Down{Frame: &linkpb.Down_Query{Query: a}}
}

// answerQuery reads from this replica; linearizable unless stale is asked for.
func answerQuery(ctx context.Context, node *consensus.Node, q *linkpb.Query) *linkpb.QueryAnswer {
	a := &linkpb.QueryAnswer{Id: q.Id, Stale: q.Stale}
	var view *fsm.View
	var err error
	if q.Stale {
		view = node.StaleView()
	} else if view, err = node.Read(ctx); err != nil {
		a.Detail = err.Error()
		return a
	}
	a.Ok, a.Index = true, view.Index()
	switch q := q.Query.(type) {
	case *linkpb.Query_Get:
		if i, ok := view.Get(q.Get.Lock); ok {
			a.Locks = append(a.Locks, lockInfo(i))
		}
	case *linkpb.Query_List:
		page, next := view.List(filter(q.List))
		for _, i := range page {
			a.Locks = append(a.Locks, lockInfo(i))
		}
		a.Next = next
	case *linkpb.Query_Sessions:
		page, next := view.Sessions(sessionFilter(q.Sessions))
		for _, i := range page {
			a.Sessions = append(a.Sessions, sessionInfo(i))
		}
		if next != nil {
			a.NextSession = next[:]
		}
	}
	return a
}
