package sim

import (
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

func acquire(seq uint64) *api.SessionRequest {
	return &api.SessionRequest{Request: &api.SessionRequest_Acquire{Acquire: &api.Acquire{Seq: seq}}}
}

func answer(seq uint64) *api.SessionResponse {
	return &api.SessionResponse{Response: &api.SessionResponse_Answer{Answer: &api.Answer{Seq: seq}}}
}

func sessionPipe(h *Host) (*Pipe[*api.SessionRequest, *api.SessionResponse], *Pipe[*api.SessionResponse, *api.SessionRequest]) {
	return NewPipe[*api.SessionRequest, *api.SessionResponse](h, "session")
}

func TestPipe(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, _ *Host) {
		frames := w.Record(nil)
		client, server := sessionPipe(a)
		w.Net.Isolate(a) // does not concern it
		w.Net.SetLoss(1)
		for n := range uint64(20) {
			m := acquire(n)
			if err := client.Send(m); err != nil {
				t.Fatal(err)
			}
			m.GetAcquire().Seq = 999 // what was sent is a copy
		}
		for n := range uint64(20) {
			m, err := server.Recv()
			if err != nil || m.GetAcquire().GetSeq() != n {
				t.Fatalf("request %d: %v, %v", n, m, err)
			}
		}
		if err := server.Send(answer(1)); err != nil {
			t.Fatal(err)
		}
		server.Close()
		// What arrived before the end is read first.
		time.Sleep(time.Second)
		m, err := client.Recv()
		if err != nil || m.GetAnswer().GetSeq() != 1 {
			t.Errorf("answer: %v, %v", m, err)
		}
		_, err = client.Recv()
		wantErr(t, "the end", err, ErrBroken)
		wantErr(t, "send after the end", client.Send(acquire(0)), ErrBroken)
		_, err = server.Recv()
		wantErr(t, "recv on a closed pipe", err, ErrClosed)

		all := frames.Frames()
		same(t, "first", all[0].Key(), "session/acquire app@a->a #1")
		same(t, "last", all[len(all)-1].Key(), "session-down/answer a->app@a #1")
	})
}

func TestPipeFaults(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, _ *Host) {
		client, server := sessionPipe(a)
		a.Pause()
		if err := client.Send(acquire(1)); err != nil {
			t.Fatal(err)
		}
		began := w.Now()
		time.AfterFunc(time.Second, a.Resume)
		if _, err := server.Recv(); err != nil || w.Now()-began < time.Second {
			t.Errorf("not held: %v after %v", err, w.Now()-began)
		}
		a.Crash()
		_, err := server.Recv()
		wantErr(t, "the agent's end", err, ErrDead)
		_, err = client.Recv()
		wantErr(t, "the application's end", err, ErrBroken)
		client, _ = sessionPipe(a)
		_, err = client.Recv()
		wantErr(t, "a pipe to the dead", err, ErrBroken)
		a.Restart()
		client, server = sessionPipe(a)
		if err := server.Send(answer(1)); err != nil {
			t.Errorf("the next incarnation: %v", err)
		}
		client.Close()
	})
}
