package sim

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftlock/raftlock/link/linkpb"
)

// TestCheckers: what the checkers are for, they tell, with seed and history.
func TestCheckers(t *testing.T) {
	cases := []struct {
		name string
		do   func(w *World, a, b *Host)
		want string // empty: nothing is told
	}{
		{"equal replicas", func(w *World, a, b *Host) {
			w.Applied(a, 1, "s1", []byte("x"))
			w.Applied(b, 1, "s1", []byte("x"))
		}, ""},
		{"other entries", func(w *World, a, b *Host) {
			w.Applied(a, 1, "s1", []byte("x"))
			w.Applied(b, 1, "s1", []byte("y"))
		}, "replicas differ at index 1"},
		{"other states", func(w *World, a, b *Host) {
			w.Applied(a, 1, "s1", []byte("x"))
			w.Applied(b, 1, "s2", []byte("x"))
		}, "replicas differ at index 1"},
		{"one leader a term", func(w *World, a, b *Host) {
			w.Leader(1, a)
			w.Leader(1, a)
			w.Leader(2, b)
		}, ""},
		{"two leaders of a term", func(w *World, a, b *Host) {
			w.Leader(1, a)
			w.Leader(1, b)
		}, "two leaders of term 1: a and b"},
		{"a handler that does not end", func(w *World, a, b *Host) {
			port := &deafPort{until: make(chan struct{})}
			b.Serve(port)
			if _, _, err := a.Network().Dial(w.tb.Context(), b.Addr(), &linkpb.Hello{}); err != nil {
				w.Fail("dial: %v", err)
			}
			time.AfterFunc(2*closeGrace, func() { close(port.until) })
		}, "goroutines of the world do not end"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := &tape{TB: t}
				w := New(told, 42)
				a, b := w.AddHost("a"), w.AddHost("b")
				w.Logf("a note")
				c.do(w, a, b)
				w.Close()
				time.Sleep(3 * closeGrace)
				all := strings.Join(told.told(), "\n")
				if c.want == "" {
					same(t, "told", all, "")
					return
				}
				for _, part := range []string{c.want, "seed 42", "a note"} {
					if !strings.Contains(all, part) {
						t.Errorf("%q is missing in: %.400s", part, all)
					}
				}
				if n := strings.Count(all, "a note"); n > 1 {
					t.Errorf("the history is told %d times", n)
				}
			})
		})
	}
}

// TestHistoryIsBounded: faults stay while messages come and go.
func TestHistoryIsBounded(t *testing.T) {
	var h history
	h.note(event{text: "the fault"})
	for range 5 * messagesMax {
		h.message(event{key: frameKey{kind: "raft/Heartbeat", from: "a", to: "b"}})
	}
	text := h.String()
	if !strings.Contains(text, "the fault") || strings.Count(text, "\n") > notesMax+messagesMax+1 {
		t.Errorf("%d lines", strings.Count(text, "\n"))
	}
}

// TestAfterClose: what is asked of a closed world fails, and nothing hangs.
func TestAfterClose(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		b.Serve(&peerPort{})
		up, _ := dialOK(t, a, b)
		client, server := sessionPipe(a)
		net, kv := a.Network(), a.Disk.KV()
		w.Close()
		w.Close()
		if up.Send(beat(1)) == nil || client.Send(acquire(1)) == nil || server.Send(answer(1)) == nil {
			t.Error("a stream lives")
		}
		_, err := net.Ask(t.Context(), b.Addr(), question())
		wantErr(t, "ask", err, ErrDead)
		wantErr(t, "write", kv.Save("k", nil), ErrDead)
		a.Restart()
		same(t, "restart", a.Up(), false)
		client, _ = sessionPipe(a)
		if _, err := client.Recv(); err == nil {
			t.Error("a new pipe lives")
		}
	})
}
