package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// inWorld runs f in a bubble with a world of two hosts and steady delays.
func inWorld(t *testing.T, f func(t *testing.T, w *World, a, b *Host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := New(t, 1)
		w.Net.SetDelay(time.Millisecond, time.Millisecond)
		f(t, w, w.AddHost("a"), w.AddHost("b"))
		w.Close()
	})
}

// peerPort is a link.Handler that keeps what it gets.
type peerPort struct {
	refuse linkpb.Welcome_Refusal
	answer func(ctx context.Context, q *linkpb.Question) (*linkpb.Answer, error)
	echo   bool

	mu    sync.Mutex // guards the rest
	beats []uint64
	ended []error
	down  link.DownConn
}

func (p *peerPort) Admit(*linkpb.Hello) *linkpb.Welcome {
	return &linkpb.Welcome{Refusal: p.refuse, ServerId: "s"}
}

func (p *peerPort) Link(_ *linkpb.Hello, _ *linkpb.Welcome, conn link.DownConn) {
	p.mu.Lock()
	p.down = conn
	p.mu.Unlock()
	for {
		batch, err := conn.Recv()
		p.mu.Lock()
		if err != nil {
			p.ended = append(p.ended, err)
			p.mu.Unlock()
			return
		}
		for _, up := range batch {
			p.beats = append(p.beats, up.GetBeat().GetNumber())
		}
		p.mu.Unlock()
		if p.echo {
			_ = conn.Send([]*linkpb.Down{{Frame: &linkpb.Down_Beat{Beat: &linkpb.BeatAnswer{Number: batch[0].GetBeat().GetNumber()}}}})
		}
	}
}

func (p *peerPort) Answer(ctx context.Context, q *linkpb.Question) (*linkpb.Answer, error) {
	if p.answer != nil {
		return p.answer(ctx, q)
	}
	return &linkpb.Answer{ServerId: "s"}, nil
}

func (p *peerPort) seen() []uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]uint64(nil), p.beats...)
}

func (p *peerPort) over() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]error(nil), p.ended...)
}

func (p *peerPort) conn() link.DownConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

func beat(n uint64) []*linkpb.Up {
	return []*linkpb.Up{{Frame: &linkpb.Up_Beat{Beat: &linkpb.Beat{Number: n}}}}
}

func question() *linkpb.Question {
	return &linkpb.Question{Question: &linkpb.Question_Term{Term: &linkpb.Term{}}}
}

// dialOK links from to to and reads whatever comes down until the link ends.
func dialOK(t *testing.T, from, to *Host) (link.UpConn, *downs) {
	t.Helper()
	up, welcome, err := from.Network().Dial(t.Context(), to.Addr(), &linkpb.Hello{Agent: from.Name})
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	if welcome.GetServerId() != "s" {
		t.Fatalf("welcome: %v", welcome)
	}
	d := &downs{}
	go d.read(up)
	return up, d
}

// downs collects what an agent's end of a link receives.
type downs struct {
	mu    sync.Mutex // guards the rest
	beats []uint64
	err   error
	at    time.Time
}

func (d *downs) read(up link.UpConn) {
	for {
		batch, err := up.Recv()
		d.mu.Lock()
		if err != nil {
			d.err, d.at = err, time.Now()
			d.mu.Unlock()
			return
		}
		for _, f := range batch {
			d.beats = append(d.beats, f.GetBeat().GetNumber())
		}
		d.mu.Unlock()
	}
}

func (d *downs) state() ([]uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]uint64(nil), d.beats...), d.err
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func sameList[T any](t *testing.T, what string, got, want []T) {
	t.Helper()
	same(t, what, fmt.Sprint(got), fmt.Sprint(want))
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}
