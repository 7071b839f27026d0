package consensus

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/raftlock/raftlock/telemetry/tracing"
)

// steps are the times of one round that somebody records. They are taken on
// raft's own goroutines, where nothing else can be told from the outside: its
// entry is known by the address of its bytes, which raft hands on as they are.
// A nil *steps is a round that nobody records, and takes nothing.
type steps struct {
	begun time.Time

	mu                             sync.Mutex // guards the rest: a round given up may still move
	entry                          *byte
	storing, stored, applying, end time.Time
}

// traced reports that somebody records the proposal.
func (p *Proposal) traced() bool { return p.Span != nil && p.Span.IsRecording() }

// trace begins to take times if somebody records one of a batch.
func (n *Node) trace(batch []queued) *steps {
	if !slices.ContainsFunc(batch, func(q queued) bool { return q.traced() }) {
		return nil
	}
	s := &steps{begun: time.Now()}
	n.steps.Store(s)
	return s
}

// traced makes the spans of a round that is over, whatever came of it.
func (n *Node) traced(batch []queued, s *steps, term, index uint64) {
	if s == nil {
		return
	}
	n.steps.Store(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range batch {
		if q.traced() {
			s.tell(q, term, index, len(batch))
		}
	}
}

// tell makes one command's spans. A step without an end was not seen to end:
// the round failed in it.
func (s *steps) tell(q queued, term, index uint64, commands int) {
	q.Span.SetAttributes(tracing.Term.Int64(int64(term)), tracing.Commands.Int(commands))
	if index != 0 {
		q.Span.SetAttributes(tracing.Index.Int64(int64(index)))
	}
	tracer := q.Span.TracerProvider().Tracer(tracing.Scope)
	ctx := trace.ContextWithSpan(context.Background(), q.Span)
	for _, step := range []struct {
		name       string
		begin, end time.Time
	}{
		{tracing.Queue, q.at, s.begun},
		{tracing.Append, s.storing, s.stored},
		{tracing.Replicate, s.stored, s.applying},
		{tracing.Apply, s.applying, s.end},
	} {
		if step.begin.IsZero() {
			return
		}
		_, span := tracer.Start(ctx, step.name, trace.WithTimestamp(step.begin))
		if step.end.IsZero() {
			span.SetStatus(codes.Error, "not seen to end")
			span.End()
			return
		}
		span.End(trace.WithTimestamp(step.end))
	}
}

// watch names the round's entry.
func (s *steps) watch(entry []byte) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entry = &entry[0]
}

// is reports whether l is the round's entry. The caller holds mu.
func (s *steps) is(l *raft.Log) bool { return len(l.Data) > 0 && &l.Data[0] == s.entry }

// applies notes that an entry is about to be applied, if it is the round's, and
// returns what notes that it was.
func (s *steps) applies(l *raft.Log) (applied func()) {
	if s == nil {
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.is(l) {
		return func() {}
	}
	s.applying = time.Now()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.end = time.Now()
	}
}

// stores notes that this node's disk was given the round's entry, and until
// when it took.
func (s *steps) stores(logs []*raft.Log, begin, end time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(logs, s.is) {
		s.storing, s.stored = begin, end
	}
}

// steppedLogs takes the time of what the leader's own disk needs for a round.
type steppedLogs struct {
	failStopLogs
	steps *atomic.Pointer[steps]
}

func (l steppedLogs) StoreLogs(logs []*raft.Log) error {
	s := l.steps.Load()
	if s == nil {
		return l.failStopLogs.StoreLogs(logs)
	}
	begin := time.Now()
	err := l.failStopLogs.StoreLogs(logs)
	if err == nil {
		s.stores(logs, begin, time.Now())
	}
	return err
}
