package agent

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/lease"
)

// stuckLog is a log that nobody reads: a line stays in the writing.
type stuckLog struct {
	free chan struct{}
	said *int
}

func (stuckLog) Enabled(context.Context, slog.Level) bool { return true }
func (l stuckLog) WithAttrs([]slog.Attr) slog.Handler     { return l }
func (l stuckLog) WithGroup(string) slog.Handler          { return l }

func (l stuckLog) Handle(_ context.Context, r slog.Record) error {
	<-l.free
	if r.Message == "session expired" {
		*l.said++
	}
	return nil
}

// What the proposer tells does not wait for the log, or one expiry would stop
// every commit.
func TestExpiryWaitsForNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, log := time.Now(), stuckLog{make(chan struct{}), new(int)}
		a := lonelyWith(t, &slowStore{files: map[string][]byte{}}, func() time.Duration { return time.Since(start) }, slog.New(log))
		stop := running(t, a)
		d := &leading{log: a.cfg.Log, say: a.sessions.Say}
		told := make(chan struct{})
		go func() {
			defer close(told)
			for n := range uint64(5000) { // more than find a place
				d.ended(lease.Expired{Attachment: n, Incarnation: 1}, fsm.SessionInfo{}, &command.Result{Code: command.Code_CODE_OK}, nil)
			}
		}()
		select {
		case <-told:
		case <-time.After(time.Minute):
			t.Error("the proposer waits for the log")
		}
		close(log.free)
		<-told
		stop()
		if *log.said == 0 {
			t.Error("no expiry was told once the log was taken again")
		}
	})
}

// A plain hold that runs out is its owner's business; a session's end is told.
func TestPlainHoldsRunOutInSilence(t *testing.T) {
	type said struct {
		level   slog.Level
		message string
	}
	plain := fsm.SessionInfo{Plain: true, Lock: "l", Owner: "o", Holds: 1}
	ok := &command.Result{Code: command.Code_CODE_OK}
	for _, c := range []struct {
		name  string
		x     lease.Expired
		plain fsm.SessionInfo
		r     *command.Result
		err   error
		want  said
	}{
		{"a session", lease.Expired{Attachment: 1, Incarnation: 7}, fsm.SessionInfo{}, ok, nil, said{slog.LevelInfo, "session expired"}},
		{"a plain hold", lease.Expired{}, plain, ok, nil, said{slog.LevelDebug, "plain hold ran out"}},
		{"a plain wait", lease.Expired{}, fsm.SessionInfo{Plain: true, Waits: 1}, ok, nil, said{slog.LevelDebug, "plain wait ran out"}},
		{"renewed meanwhile", lease.Expired{}, plain, &command.Result{Code: command.Code_CODE_SUPERSEDED}, nil, said{}},
		{"not committed", lease.Expired{}, plain, nil, context.Canceled, said{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got said
			d := &leading{say: func(level slog.Level, message string, _ ...any) { got = said{level, message} }}
			if d.ended(c.x, c.plain, c.r, c.err); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
