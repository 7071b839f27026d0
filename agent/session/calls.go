package session

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// callsMax bounds the calls of one agent that await an answer. Releases and
// renewals, and the reads that serve them, have as much again for themselves, and
// cancels as much of their own: a crowd that waits must not keep others from
// releasing.
const callsMax = 4096

// Errors of calls. Each says whether the request may have been applied.
var (
	// ErrTooMany: callsMax calls wait already. Not applied; ask again later.
	ErrTooMany = errors.New("too many requests wait for an answer; applied: no")
	// ErrNotSent: no leader was reached before the caller gave up. Not applied.
	ErrNotSent = errors.New("no leader was reached; applied: no")
	// ErrUnknown: the caller gave up after the request was sent.
	ErrUnknown = errors.New("no answer came; applied: unknown")
	// ErrNoLeader and ErrNoQuorum come beside ErrNotSent and ErrUnknown, which
	// say whether it was applied: a majority of the voters answers and none
	// leads yet, or no majority answers. Ask again later.
	ErrNoLeader = errors.New("no leader")
	ErrNoQuorum = errors.New("no quorum")
	// ErrInvalid: the query has strings that are not UTF-8.
	ErrInvalid = errors.New("invalid query; applied: no")
	// ErrQueueFull: the leader's queue is full. Not applied; ask again later.
	ErrQueueFull = errors.New("the leader's queue is full; applied: no")
)

// call is one request that belongs to no attached session: plain requests,
// revocations, reads. It is repeated over links until it is answered; what it
// proposes must be safe to repeat by what it says.
type call struct {
	cmd    *command.Command
	query  *linkpb.Query
	sent   int           // how often, on any link
	first  time.Duration // when it was sent first, if it was
	again  bool
	result *command.Result
	said   *linkpb.Proposed
	answer *linkpb.QueryAnswer
	err    error
	done   chan struct{}
	wait   *plainWait // of a plain wait: no request, but what a stir names
	spans  *spans
}

// Reply is the answer to a command that no attached session makes.
type Reply struct {
	*command.Result
	// Sent is when the command was sent first, on the host's CLOCK_BOOTTIME:
	// what a V that it moves is reckoned from.
	Sent time.Duration
	// Repeated: it was sent more than once, so it may have been applied before
	// the time that this answers.
	Repeated bool

	said *linkpb.Proposed // what the leader said beside, for spans
}

// Propose asks the cluster to apply a command that no attached session makes,
// and waits for its result. It is asked again over every new link until ctx
// ends.
func (h *Host) Propose(ctx context.Context, c *command.Command) (*command.Result, error) {
	r, err := h.Ask(ctx, c)
	return r.Result, err
}

// Ask is Propose, and tells when it was sent.
func (h *Host) Ask(ctx context.Context, c *command.Command) (Reply, error) {
	if no := invalid(c); no != nil {
		return Reply{Result: no}, nil
	}
	x := &call{cmd: c, spans: h.within(ctx)}
	if err := h.run(ctx, x); err != nil {
		x.spans.settled(nil, err)
		return Reply{}, err
	}
	x.spans.settled(x.result, x.err)
	r := Reply{Result: x.result, Sent: x.first, Repeated: x.sent > 1, said: x.said}
	if x.err == nil {
		h.measurePlain(c, r)
	}
	return r, x.err
}

// invalid is the answer to a command that nobody may ask for; nil: it is valid.
func invalid(c *command.Command) *command.Result {
	if complaint := command.Valid(c); complaint != "" {
		return &command.Result{Code: command.Code_CODE_INVALID, Detail: complaint}
	}
	return nil
}

// Query reads. With stale it may be answered by a replica that does not lead.
func (h *Host) Query(ctx context.Context, q *linkpb.Query) (*linkpb.QueryAnswer, error) {
	if _, err := proto.Marshal(q); err != nil {
		return nil, errors.Join(ErrInvalid, err) // a link could not carry it
	}
	x := &call{query: q}
	if err := h.run(ctx, x); err != nil {
		return nil, err
	}
	return x.answer, x.err
}

func (h *Host) run(ctx context.Context, c *call) error {
	c.done = make(chan struct{})
	h.mu.Lock()
	switch {
	case h.closed:
		h.mu.Unlock()
		return ErrClosed
	case h.load() >= c.bound():
		h.mu.Unlock()
		return ErrTooMany
	}
	h.calls[c] = struct{}{}
	h.sendCall(c)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.calls, c)
		h.mu.Unlock()
	}()
	select {
	case <-c.done:
		return nil
	case <-h.gone:
		h.mu.Lock()
		defer h.mu.Unlock()
		if c.sent > 0 {
			return errors.Join(ErrUnknown, ErrClosed)
		}
		return ErrClosed
	case <-ctx.Done():
		h.mu.Lock()
		defer h.mu.Unlock()
		err := ErrNotSent
		if c.sent > 0 {
			err = ErrUnknown
		}
		return errors.Join(err, unreached[h.reach], ctx.Err())
	}
}

// load is how many calls there are but for cancels, which have a bound of their
// own. The caller holds mu.
func (h *Host) load() int { return len(h.calls) - h.cancelling }

func (c *call) bound() int {
	if c.query.GetUpkeep() && !mutant.On("session-upkeep") {
		return 2 * callsMax
	}
	switch c.cmd.GetKind().(type) {
	case *command.Command_PlainRenew, *command.Command_PlainRelease:
		return 2 * callsMax
	}
	return callsMax
}

// unreached is why no answer may have come; nil: a leader is reached.
var unreached = map[api.Reason]error{
	api.Reason_REASON_NO_LEADER: ErrNoLeader,
	api.Reason_REASON_NO_QUORUM: ErrNoQuorum,
}

func (h *Host) sendCall(c *call) {
	if h.up == nil || c.done == nil {
		return
	}
	if c.sent == 0 || mutant.On("session-plain-sent") {
		c.first = h.cfg.Clock()
	}
	c.sent, c.again = c.sent+1, false
	p := pending{what: proposeCall, call: c}
	if c.query == nil {
		p.trace = c.spans.sends(h.up)
		h.propose(c.cmd, p)
		return
	}
	h.up.nextID++
	h.up.pending[h.up.nextID] = p
	q := &linkpb.Query{Id: h.up.nextID, Stale: c.query.Stale, Upkeep: c.query.Upkeep, Query: c.query.Query}
	h.up.Send(&link.Up{Frame: &linkpb.Up_Query{Query: q}})
}

func (h *Host) callAnswered(c *call, f *linkpb.Proposed) {
	switch f.Outcome {
	case linkpb.Proposed_OUTCOME_QUEUE_FULL:
		if c.sent > 1 {
			c.again = true // sent before, it may have been applied
			return
		}
		c.err = ErrQueueFull
	case linkpb.Proposed_OUTCOME_APPLIED:
		c.result, c.said = f.Result, f
	default:
		return // the next link asks again
	}
	h.finish(c)
}

func (h *Host) queried(f *linkpb.QueryAnswer) {
	p, ok := h.up.pending[f.Id]
	if !ok || p.call == nil {
		return
	}
	delete(h.up.pending, f.Id)
	if !f.Ok {
		p.call.again = true // could not be confirmed: asked again at the next tick
		return
	}
	p.call.answer = f
	h.finish(p.call)
}

func (h *Host) finish(c *call) {
	if _, open := h.calls[c]; open {
		delete(h.calls, c)
		close(c.done)
	}
}
