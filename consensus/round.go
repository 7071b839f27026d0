package consensus

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

const (
	entryCommandsMax = command.EntryCommandsMax
	// entryBytesMax leaves room for the entry's own fields.
	entryBytesMax = command.EntryBytesMax - 64

	// transferTimeouts is how many election timeouts a leadership transfer may
	// block entries before it counts as stuck.
	transferTimeouts = 3
)

// errBound: ErrUnknown because the bound on waiting passed.
var errBound = fmt.Errorf("%w: no answer in time", ErrUnknown)

// round takes one batch through the log and answers all of it. An error ends
// the leadership.
func (l *Leadership) round(batch []queued) error {
	batch = l.admitted(batch)
	if len(batch) == 0 {
		return nil
	}
	commands := make([]*command.Command, len(batch))
	for i, q := range batch {
		commands[i] = q.Command
	}
	steps := l.node.trace(batch)
	out, err := l.node.apply(l, commands)
	l.node.traced(batch, steps, l.term, out.Index)
	if err != nil {
		told := ErrNotLeading
		if errors.Is(err, ErrUnknown) {
			told = ErrUnknown
		}
		for _, q := range batch {
			q.Done(nil, told)
		}
		return err
	}
	for i, q := range batch {
		for _, e := range out.Events[i] {
			l.node.cfg.Leader.Event(e)
		}
		q.Done(out.Results[i], nil)
	}
	l.measured(batch)
	return nil
}

// measured tells how long the commands of an applied round took, those that
// waited for it included.
func (l *Leadership) measured(batch []queued) {
	metrics := l.node.cfg.Metrics
	if metrics == nil {
		return
	}
	now := time.Now()
	for _, q := range batch {
		metrics.Committed(now.Sub(q.at))
	}
}

// admitted answers what needs no entry and returns the rest.
func (l *Leadership) admitted(batch []queued) []queued {
	answers := make([]*command.Result, len(batch))
	l.node.machine.inspect(func(s *fsm.State) {
		touched := make(map[string]bool, len(batch))
		for i, q := range batch {
			if answers[i] = l.admit(q.Command, s, touched); answers[i] == nil {
				touched[concerns(q.Command)] = true
			}
		}
	})
	var rest []queued
	for i, q := range batch {
		if answers[i] == nil {
			rest = append(rest, q)
			continue
		}
		q.Done(answers[i], nil)
	}
	return rest
}

func (l *Leadership) admit(c *command.Command, s *fsm.State, touched map[string]bool) *command.Result {
	// An older replica would take it for a no-op: replicas would differ.
	if v := command.KindVersion(c); v > s.Version() {
		return &command.Result{
			Code:   command.Code_CODE_UNKNOWN_KIND,
			Detail: fmt.Sprintf("needs cluster version %d, this cluster has %d", v, s.Version()),
		}
	}
	return l.node.cfg.Leader.Admit(c, s, touched[concerns(c)])
}

// concerns names the session a command is about; kinds without one share a
// name.
func concerns(c *command.Command) string {
	owner, lock := plainNames(c)
	if owner == "" && lock == "" {
		return string(c.GetSession())
	}
	id := command.PlainID(owner, lock)
	return string(id[:])
}

func plainNames(c *command.Command) (owner, lock string) {
	switch k := c.GetKind().(type) {
	case *command.Command_PlainAcquire:
		return k.PlainAcquire.GetOwner(), k.PlainAcquire.GetLock()
	case *command.Command_PlainRenew:
		return k.PlainRenew.GetOwner(), k.PlainRenew.GetLock()
	case *command.Command_PlainRelease:
		return k.PlainRelease.GetOwner(), k.PlainRelease.GetLock()
	case *command.Command_PlainCancel:
		return k.PlainCancel.GetOwner(), k.PlainCancel.GetLock()
	}
	return "", ""
}

// apply puts the commands into the log as one entry of the leadership's term
// and waits until it is applied here. Its errors say what is known of the
// outcome: ErrNotLeading and those sent to Fatal, surely not applied;
// ErrUnknown (errBound is one), perhaps.
func (n *Node) apply(l *Leadership, commands []*command.Command) (fsm.Outcome, error) {
	entry := &command.Entry{
		Format:    command.FormatEntry,
		Term:      l.term,
		WallNanos: n.cfg.Wall().UnixNano(),
		Commands:  commands,
	}
	if mutant.On("establish-term") {
		// The log's own term at the time of the apply, which is no expectation.
		entry.Term = n.raft.CurrentTerm()
	}
	data, err := proto.Marshal(entry)
	if err != nil {
		return fsm.Outcome{}, fmt.Errorf("%w: entry cannot be encoded: %w", ErrNotLeading, err)
	}
	n.steps.Load().watch(data)
	for tries := 0; ; tries++ {
		out, err := n.applyOnce(l, data)
		if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			return n.judge(out, err, len(commands))
		}
		if !n.leads(l.term) || !n.pause(retryPause) {
			return fsm.Outcome{}, ErrNotLeading
		}
		if time.Duration(tries)*retryPause > transferTimeouts*n.cfg.ElectionTimeout {
			n.fatal(ErrTransferStuck)
			return fsm.Outcome{}, ErrTransferStuck
		}
	}
}

// judge says what an answer of raft means for the commands of an entry.
func (n *Node) judge(answer any, err error, commands int) (fsm.Outcome, error) {
	switch {
	case err == nil:
	case errors.Is(err, errBound):
		return fsm.Outcome{}, err
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout):
		// Refused before it had an index.
		return fsm.Outcome{}, ErrNotLeading
	default:
		// Leadership lost, shut down, a failed write: it may be in some log.
		return fsm.Outcome{}, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	out, ok := answer.(fsm.Outcome)
	if ok && out.Void {
		// It got into the log under another term.
		return fsm.Outcome{}, ErrNotLeading
	}
	if !ok || len(out.Results) != commands || len(out.Events) != commands {
		panic(fmt.Sprintf("state machine answered %d commands with %+v", commands, answer))
	}
	return out, nil
}

// applyOnce waits for raft's answer, ApplyBound at most, and once the node
// closes only a moment.
func (n *Node) applyOnce(l *Leadership, data []byte) (any, error) {
	type answer struct {
		value any
		err   error
	}
	answers := make(chan answer, 1)
	stop := make(chan struct{})
	defer close(stop)
	if !n.spawn(func() {
		// Refused well before the bound: what the bound finds was accepted.
		f := n.raft.Apply(data, n.cfg.ApplyBound/2)
		abandonable(f, stop)
		if err := f.Error(); err != nil {
			answers <- answer{err: err}
			return
		}
		answers <- answer{value: f.Response()}
	}) {
		return nil, raft.ErrNotLeader
	}
	bound := time.NewTimer(n.cfg.ApplyBound)
	defer bound.Stop()
	closing := n.closing
	for {
		select {
		case a := <-answers:
			return a.value, a.err
		case <-n.poke:
			// Raft answers when it is deposed; what waits on Done need not wait
			// for that.
			if !n.leads(l.term) {
				l.finish()
			}
		case <-closing:
			closing = nil
			bound.Reset(n.cfg.HeartbeatTimeout)
		case <-bound.C:
			return nil, errBound
		}
	}
}
