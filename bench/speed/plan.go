package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// workload is what workers do.
type workload string

const (
	pairs    workload = "pairs"
	handOffs workload = "hand-offs"
	reads    workload = "reads"
	// verifies are bare Raft's alone.
	verifies workload = "VerifyLeader reads"
)

// place is whose sockets they use.
type place string

const (
	atVoter     place = "voter socket"
	atLeader    place = "leader socket"
	atForwarder place = "forwarder socket"
	everywhere  place = "all six sockets"
)

const (
	contenders = 16
	readers    = 64
	// triesMax is how often a measurement is begun whose leader did not stay.
	triesMax = 5
)

// subject is one row: what is measured against bare raft in every round.
type subject struct {
	workload workload
	workers  int
	places   []place
}

func plan(workers []int) []subject {
	var out []subject
	for _, n := range workers {
		out = append(out, subject{pairs, n, []place{atVoter, atLeader, atForwarder}})
	}
	return append(out,
		subject{handOffs, contenders, []place{atVoter, atForwarder, everywhere}},
		subject{reads, readers, []place{atVoter, atLeader, atForwarder}},
		subject{verifies, readers, nil})
}

// who names the workers of a subject.
func (s subject) who() string {
	noun := map[workload]string{pairs: "worker", handOffs: "contender", reads: "reader", verifies: "reader"}[s.workload]
	if s.workers != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", s.workers, noun)
}

// result is all samples of one subject: bare's, and each place's, by round.
type result struct {
	subject
	bare []sample
	ours [][]sample // by place
}

type resultList []*result

// measureAll makes every measurement once a round, bare raft's just before
// those that are compared with it.
func measureAll(ctx context.Context, opt options, b *bare, a *agents, out io.Writer) (resultList, error) {
	var all resultList
	for _, s := range plan(opt.workers) {
		all = append(all, &result{subject: s, ours: make([][]sample, len(s.places))})
	}
	for round := range opt.rounds {
		for _, r := range all {
			if err := r.measure(ctx, opt.duration, b, a, out); err != nil {
				return nil, fmt.Errorf("round %d, %s, %s: %w", round+1, r.workload, r.who(), err)
			}
		}
	}
	return all, nil
}

func (r *result) measure(ctx context.Context, d time.Duration, b *bare, a *agents, out io.Writer) error {
	s, err := steady(ctx, out, func() (sample, error) { return b.measure(ctx, r.workload, r.workers, d) })
	if err != nil {
		return fmt.Errorf("bare raft: %w", err)
	}
	r.bare = append(r.bare, s)
	for i, p := range r.places {
		s, err := steady(ctx, out, func() (sample, error) { return a.measure(ctx, r.workload, p, r.workers, d) })
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		r.ours[i] = append(r.ours[i], s)
	}
	return nil
}

// steady takes a measurement again whose leader changed, and says so.
func steady(ctx context.Context, out io.Writer, measure func() (sample, error)) (s sample, err error) {
	for range triesMax {
		s, err = measure()
		if !errors.Is(err, errMoved) {
			return s, err
		}
		_, _ = fmt.Fprintf(out, "note: %v; measured again\n", err)
		wait(ctx, time.Second)
	}
	return s, err
}
