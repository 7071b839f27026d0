package agent

import (
	"fmt"
	"testing"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link/linkpb"
)

func told(name string) *traced { return &traced{told: &linkpb.Trace{Traceparent: name}} }

// What the leader remembers of who holds a lock is of the hold that the state
// names, or nothing.
func TestHolderTraces(t *testing.T) {
	one, two := fsm.ID{1}, fsm.ID{2}
	acquire := func(by fsm.ID, seq uint64) *command.Command {
		return &command.Command{Session: by[:], Seq: seq, Kind: &command.Command_Acquire{Acquire: &command.Acquire{Lock: "l"}}}
	}
	standing := func(state command.Standing_State, token uint64) *command.Result {
		return &command.Result{Standings: []*command.Standing{{State: state, Token: token}}}
	}
	const held, waiting = command.Standing_STATE_HELD, command.Standing_STATE_WAITING
	granted := func(to fsm.ID, seq, token uint64) fsm.Event {
		return fsm.Event{Kind: fsm.EventGranted, Session: to, Seq: seq, Token: token, Lock: "l", Incarnation: 7}
	}
	cases := []struct {
		name  string
		do    func(h *holderTraces)
		token uint64
		want  string
		waits int // remembered at the end
	}{
		{"granted at once", func(h *holderTraces) { h.remember(acquire(one, 1), standing(held, 5), told("a")) }, 5, "a", 0},
		{"granted at once to one whom nobody records", func(h *holderTraces) {
			h.remember(acquire(one, 1), standing(held, 5), told("a"))
			h.remember(acquire(two, 1), standing(held, 6), nil)
		}, 6, "", 0},
		{"asked again without a trace", func(h *holderTraces) {
			h.remember(acquire(one, 1), standing(held, 5), told("a"))
			h.remember(acquire(one, 1), standing(held, 5), nil)
		}, 5, "a", 0},
		{"granted to one that waited", func(h *holderTraces) {
			h.remember(acquire(one, 1), standing(held, 5), told("a"))
			h.remember(acquire(two, 3), standing(waiting, 0), told("b"))
			h.event(granted(two, 3, 6))
		}, 6, "b", 0},
		{"the one before it is no answer", func(h *holderTraces) {
			h.remember(acquire(one, 1), standing(held, 5), told("a"))
			h.remember(acquire(two, 3), standing(waiting, 0), nil)
			h.event(granted(two, 3, 6))
		}, 6, "", 0},
		{"granted before this leadership", func(h *holderTraces) {}, 5, "", 0},
		{"taken away", func(h *holderTraces) {
			h.remember(acquire(one, 1), standing(held, 5), told("a"))
			h.event(fsm.Event{Kind: fsm.EventGone, Session: one, Seq: 1, Token: 5, Lock: "l", Incarnation: 7})
		}, 5, "", 0},
		{"a wait that is cancelled", func(h *holderTraces) {
			h.remember(acquire(two, 3), standing(waiting, 0), told("b"))
			h.remember(&command.Command{Session: two[:], Kind: &command.Command_Cancel{Cancel: &command.Cancel{Target: 3}}},
				&command.Result{}, nil)
		}, 0, "", 0},
		{"waits of a session that ended", func(h *holderTraces) {
			h.remember(acquire(two, 3), standing(waiting, 0), told("b"))
			h.remember(acquire(two, 4), standing(waiting, 0), told("b"))
			h.remember(acquire(one, 4), standing(waiting, 0), told("b"))
			h.event(fsm.Event{Kind: fsm.EventEnded, Session: two, Incarnation: 7})
		}, 0, "", 1},
		{"a plain wait has no sequence", func(h *holderTraces) {
			c := &command.Command{Kind: &command.Command_PlainAcquire{PlainAcquire: &command.PlainAcquire{Owner: "o", Lock: "l"}}}
			h.remember(c, standing(waiting, 0), told("p"))
			h.remember(c, standing(waiting, 0), told("p"))
			h.event(fsm.Event{Kind: fsm.EventGranted, Session: fsm.PlainID("o", "l"), Seq: 9, Token: 6, Lock: "l"})
		}, 6, "p", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHolderTraces()
			c.do(h)
			if got := h.of("l", c.token).GetTraceparent(); got != c.want {
				t.Errorf("the holder's trace is %q, want %q", got, c.want)
			}
			if h.waits != c.waits || len(h.wait) != c.waits {
				t.Errorf("%d waits remembered (%d), want %d", h.waits, len(h.wait), c.waits)
			}
		})
	}
}

func TestHolderTracesAreBounded(t *testing.T) {
	h := newHolderTraces()
	for i := range 3 * tracesMax {
		h.hold(fmt.Sprint(i), 1, told("a").told)
		h.waiting(fsm.ID{1}, uint64(i), told("a").told)
	}
	if len(h.held) != tracesMax || h.waits != tracesMax || len(h.wait[fsm.ID{1}]) != tracesMax {
		t.Errorf("%d holds and %d waits are remembered, want %d", len(h.held), h.waits, tracesMax)
	}
	if last := fmt.Sprint(3*tracesMax - 1); h.of(last, 1) == nil || h.left(fsm.ID{1}, 3*tracesMax-1) == nil {
		t.Error("the newest are not remembered")
	}
}

// A reconcile that takes waits away makes no event for each: what is remembered
// of them must not keep newer ones out.
func TestReconciledWaitsMakeRoom(t *testing.T) {
	h := newHolderTraces()
	waits := &command.Result{Standings: []*command.Standing{{State: command.Standing_STATE_WAITING}}}
	wait := func(by fsm.ID, seq uint64) {
		h.remember(&command.Command{Session: by[:], Seq: seq, Kind: &command.Command_Acquire{Acquire: &command.Acquire{Lock: "l"}}},
			waits, told("a"))
	}
	one, two := fsm.ID{1}, fsm.ID{2}
	for seq := range uint64(tracesMax) {
		wait(one, seq+1)
	}
	h.remember(&command.Command{Session: one[:], Kind: &command.Command_Reconcile{Reconcile: &command.Reconcile{Next: tracesMax + 1}}},
		&command.Result{}, nil)
	for range 2 {
		wait(two, 1)
	}
	if h.left(two, 1) == nil || h.waits != tracesMax-1 {
		t.Errorf("the newest wait is not remembered, %d others are", h.waits)
	}
}
