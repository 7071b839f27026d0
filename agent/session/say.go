package session

import (
	"context"
	"encoding/hex"
	"log/slog"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/telemetry/key"
)

// linesMax bounds the lines that wait to be written. Half of it is kept for
// warnings: a crowd that comes and goes leaves them room.
const linesMax = 1024

// line is one that waits to be written, and whose span it was said in.
type line struct {
	ctx context.Context
	slog.Record
}

// say hands one line to Tell. It never blocks: it is called with the Host's
// mutex held, and a log that is not taken must stop no beat. What finds no place
// is counted.
//
// A session's coming and going is Info (design section 10): a line each, as many
// as applications start and stop. Its holds' is Debug: an operator acts on none of
// a thousand. A hold that is taken away is Info, and a lost one Warn, once for a
// session's all.
func (h *Host) say(level slog.Level, message string, args ...any) {
	h.sayIn(context.Background(), level, message, args...) // no request's: lines of sessions
}

// Say is say for those beside the Host that must not wait for the log either.
func (h *Host) Say(level slog.Level, message string, args ...any) { h.say(level, message, args...) }

// sayIn says it in the course of the span in ctx: the line names its trace.
func (h *Host) sayIn(ctx context.Context, level slog.Level, message string, args ...any) {
	if !h.cfg.Log.Enabled(ctx, level) {
		return
	}
	r := slog.NewRecord(time.Now(), level, message, 0) // as slog itself stamps lines
	r.Add(args...)
	if level < slog.LevelWarn && len(h.lines) >= linesMax/2 {
		h.untold.Add(1)
		return
	}
	select {
	case h.lines <- line{ctx, r}:
	default:
		h.untold.Add(1)
	}
}

// Tell writes what the Host says of its sessions into its log until ctx ends,
// and then the rest. Without it nothing is written.
func (h *Host) Tell(ctx context.Context) error {
	for {
		select {
		case l := <-h.lines:
			h.write(l)
			continue
		case <-ctx.Done():
		}
		for range len(h.lines) {
			h.write(<-h.lines)
		}
		return nil
	}
}

func (h *Host) write(l line) {
	if n := h.untold.Swap(0); n > 0 {
		h.cfg.Log.Warn("lines about sessions were left untold", "lines", n)
	}
	_ = h.cfg.Log.Handler().Handle(l.ctx, l.Record) // nobody could be told
}

// name is a session as lines have it.
func (s *session) name() string { return hex.EncodeToString(s.id[:]) }

func (h *Host) sayAttached(s *session, opened bool) {
	message := "session resumed"
	if opened {
		message = "session opened"
	}
	h.say(slog.LevelInfo, message, key.Session, s.name(), key.Attachment, s.attachment)
}

func (h *Host) sayDropped(s *session, why api.Reason) {
	h.say(slog.LevelInfo, "session ended", key.Session, s.name(), key.Attachment, s.attachment, key.Reason, word(why))
}

func (h *Host) sayLost(s *session, holds int) {
	h.say(slog.LevelWarn, "holds lost: V passed unrenewed", key.Session, s.name(), "holds", holds)
}

// sayHold tells of one hold in the course of the request that changed it.
func (h *Host) sayHold(s *session, e *entry, x *spans, message string) {
	ctx := x.context()
	if h.cfg.Log.Enabled(ctx, slog.LevelDebug) { // else not even its words are made
		h.sayIn(ctx, slog.LevelDebug, message, key.Session, s.name(), key.Lock, e.lock, key.Token, e.token)
	}
}

func (h *Host) sayRevoked(s *session, e *entry) {
	h.say(slog.LevelInfo, "hold revoked", key.Session, s.name(), key.Lock, e.lock, key.Token, e.token)
}
