package agent

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

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
				d.ended(lease.Expired{Attachment: n}, &command.Result{Code: command.Code_CODE_OK}, nil)
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
