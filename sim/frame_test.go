package sim

import (
	"testing"
	"time"

	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link/linkpb"
)

func TestKinds(t *testing.T) {
	propose := &linkpb.Up{Frame: &linkpb.Up_Propose{Propose: &linkpb.Propose{
		Command: &command.Command{Kind: &command.Command_SetTtl{SetTtl: &command.SetTTL{}}},
	}}}
	notice := &linkpb.Down{Frame: &linkpb.Down_Notice{Notice: &linkpb.Notice{Notice: &linkpb.Notice_Moved{Moved: true}}}}
	founding := &linkpb.Question{Question: &linkpb.Question_Founding{Founding: &linkpb.Founding{
		Founding: &linkpb.Founding_Promise{Promise: &linkpb.Promise{}},
	}}}
	for _, c := range []struct{ got, want string }{
		{kindOf(propose), "propose/set_ttl"},
		{kindOf(beat(1)[0]), "beat"},
		{kindOf(notice), "notice/moved"},
		{kindOf(founding), "founding/promise"},
		{kindOf(question()), "term"},
		{kindOf(&linkpb.Question{}), "Question"},
	} {
		same(t, "kind", c.got, c.want)
	}
}

// TestActions does each action to the second beat from a to b.
func TestActions(t *testing.T) {
	cases := []struct {
		action Action
		seen   []uint64 // by b's first incarnation
		fromUp bool     // whether a is up shortly after
		toUp   bool
		broken bool
		lives  [2]int // incarnations of a and b in the end
	}{
		{Deliver, []uint64{1, 2, 3}, true, true, false, [2]int{1, 1}},
		{Cut, []uint64{1}, true, true, true, [2]int{1, 1}},
		{KillFrom, []uint64{1}, false, true, true, [2]int{1, 1}},
		{KillFromSent, []uint64{1, 2}, false, true, true, [2]int{1, 1}},
		{KillTo, []uint64{1}, true, false, true, [2]int{1, 1}},
		{RestartFrom, []uint64{1}, false, true, true, [2]int{2, 1}},
		{RestartFromSent, []uint64{1, 2}, false, true, true, [2]int{2, 1}},
		{RestartTo, []uint64{1}, true, false, true, [2]int{1, 2}},
	}
	for _, c := range cases {
		t.Run(c.action.String(), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *World, a, b *Host) {
				hook, hit := At("link-up/beat a->b #2", c.action)
				w.OnFrame(hook)
				port := &peerPort{}
				b.Serve(port)
				up, down := dialOK(t, a, b)
				for n := uint64(1); n <= 3; n++ {
					_ = up.Send(beat(n))
					time.Sleep(50 * time.Millisecond)
				}
				same(t, "hit", hit(), true)
				sameList(t, "seen", port.seen(), c.seen)
				same(t, "a is up", a.Up(), c.fromUp)
				same(t, "b is up", b.Up(), c.toUp)
				_, err := down.state()
				same(t, "broken", err != nil, c.broken)
				time.Sleep(time.Second)
				same(t, "incarnations", [2]int{a.Incarnation(), b.Incarnation()}, c.lives)
			})
		})
	}
}

// TestActionsOnQuestions: a question or its answer is lost, or an end dies.
func TestActionsOnQuestions(t *testing.T) {
	cases := []struct {
		key    string
		action Action
		want   error
	}{
		{"ask/term a->b #1", Cut, ErrBroken},
		{"ask/term-reply b->a #1", Cut, ErrBroken},
		{"ask/term a->b #1", KillTo, ErrConnectionRefused},
		{"ask/term-reply b->a #1", KillFrom, ErrBroken},
		{"ask/term-reply b->a #1", KillFromSent, nil},
		{"ask/term a->b #1", KillFrom, ErrBroken},
		{"ask/term a->b #1", KillFromSent, ErrDead},
		{"ask/term-reply b->a #1", KillTo, ErrDead},
		{"link-up/hello a->b #1", KillTo, nil},
	}
	for _, c := range cases {
		t.Run(c.action.String()+" "+c.key, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *World, a, b *Host) {
				hook, _ := At(c.key, c.action)
				w.OnFrame(hook)
				b.Serve(&peerPort{})
				_, err := a.Network().Ask(t.Context(), b.Addr(), question())
				wantErr(t, "ask", err, c.want)
			})
		})
	}
}

// TestKillApp: an application's death breaks its pipe and is told.
func TestKillApp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, _ *Host) {
		killed := ""
		w.OnKillApp(func(f *Frame) { killed = f.From })
		hook, _ := At("session/acquire app@a->a #2", KillFromSent)
		w.OnFrame(hook)
		client, server := sessionPipe(a)
		for n := range uint64(3) {
			_ = client.Send(acquire(n))
		}
		same(t, "told", killed, "app@a")
		for range 2 {
			if _, err := server.Recv(); err != nil {
				t.Errorf("what was sent: %v", err)
			}
		}
		_, err := server.Recv()
		wantErr(t, "the agent's end", err, ErrBroken)
		_, err = client.Recv()
		wantErr(t, "the application's end", err, ErrDead)
		same(t, "the agent lives", a.Up(), true)
	})
}

func TestRecorder(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		r := w.Record(func(f *Frame) bool { return f.From == "a" })
		b.Serve(&peerPort{})
		for range 2 {
			if _, err := a.Network().Ask(t.Context(), b.Addr(), question()); err != nil {
				t.Fatal(err)
			}
		}
		var keys []string
		for _, f := range r.Frames() {
			keys = append(keys, f.Key())
		}
		sameList(t, "keys", keys, []string{"ask/term a->b #1", "ask/term a->b #2"})
	})
}
