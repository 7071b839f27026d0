package consensus

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/telemetry/key"
)

// hcLog lets raft and its transport log into slog. Levels follow the slog
// handler; SetLevel and the named forms change nothing.
type hcLog struct {
	hclog.Logger // the null logger, for what raft never calls
	to           *slog.Logger
	name         string
	repeats      *repeats // of all that come from one newHCLog
}

func newHCLog(to *slog.Logger) hclog.Logger {
	return &hcLog{Logger: hclog.NewNullLogger(), to: to, repeats: newRepeats()}
}

func (l *hcLog) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *hcLog) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *hcLog) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *hcLog) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *hcLog) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *hcLog) Log(level hclog.Level, msg string, args ...any) {
	peer, about := peerOf(args)
	repeats := about && level == hclog.Error && repeating[msg]
	if repeats {
		level = hclog.Warn // it ends when the peer is back
	}
	if !l.enabled(level) {
		return
	}
	args = rendered(args)
	if repeats {
		untold, ok := l.repeats.take(repeat{msg, peer})
		if !ok {
			return
		}
		if untold > 0 {
			args = append(args, "untold", untold)
		}
	}
	l.to.Log(context.Background(), slogLevel(level), msg, args...)
}

// peerOf is which other server a line is about, if it is about one.
func peerOf(args []any) (peer string, ok bool) {
	for i := 0; i+1 < len(args); i += 2 {
		if k := args[i]; k != "peer" && k != "target" {
			continue
		}
		if server, ok := args[i+1].(raft.Server); ok {
			return string(server.ID), true
		}
		return fmt.Sprint(args[i+1]), true
	}
	return "", false
}

func (l *hcLog) IsTrace() bool { return l.enabled(hclog.Trace) }
func (l *hcLog) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l *hcLog) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l *hcLog) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l *hcLog) IsError() bool { return l.enabled(hclog.Error) }

func (l *hcLog) enabled(level hclog.Level) bool {
	return level != hclog.Off && l.to.Enabled(context.Background(), slogLevel(level))
}

func (l *hcLog) With(args ...any) hclog.Logger {
	return &hcLog{Logger: l.Logger, to: l.to.With(rendered(args)...), name: l.name, repeats: l.repeats}
}

func (l *hcLog) Name() string { return l.name }

func (l *hcLog) Named(name string) hclog.Logger { return l.ResetNamed(name) }

func (l *hcLog) ResetNamed(name string) hclog.Logger {
	return &hcLog{Logger: l.Logger, to: l.to, name: name, repeats: l.repeats}
}

func (l *hcLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.to.Handler(), slog.LevelInfo)
}

func (l *hcLog) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(o).Writer()
}

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Trace:
		return slog.LevelDebug - 4
	case hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// keys are raft's names for what has another one here. The rest is taken as it
// is, with our kind of dash.
var keys = map[string]string{
	"peer":             key.Node,
	"target":           key.Node,
	"server-id":        key.Node,
	"leader-id":        key.Leader,
	"last-leader-id":   "last_leader",
	"addr":             key.Address,
	"leader-address":   key.Address,
	"local-address":    key.Address,
	"last-leader-addr": key.Address,
	"raft-state":       key.State,
	"votesNeeded":      "needed",
}

// keySelf is how raft tells of itself: address and state.
const keySelf = "self"

// keyOf is what a line of raft's calls something here.
func keyOf(k string) string {
	if ours, ok := keys[k]; ok {
		return ours
	}
	return strings.ReplaceAll(k, "-", "_")
}

// rendered gives raft's keys our names, and turns hclog's deferred formats, and
// what can say itself in words, into text, and members into their ids: a JSON
// handler would print their fields.
func rendered(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		if i%2 == 1 {
			out[i-1], out[i] = keyFor(args[i-1], out[i-1], a), inWords(a)
			continue
		}
		if k, ok := a.(string); ok {
			a = keyOf(k)
		}
		out[i] = a
	}
	return out
}

// keyFor is what a value is called whose key alone does not tell: raft calls
// servers, addresses and indices by one word.
func keyFor(theirs, ours, value any) any {
	switch value.(type) {
	case *raft.Raft:
		return keySelf // it is called node, follower or leader
	case raft.ServerAddress:
		if ours == key.Node || theirs == "from" {
			return key.Address
		}
	case raft.Server, raft.ServerID:
		if theirs == "from" {
			return key.Node
		}
	}
	return ours
}

func inWords(value any) any {
	switch v := value.(type) {
	case raft.Server:
		return string(v.ID)
	case hclog.Format:
		if len(v) > 0 {
			if format, ok := v[0].(string); ok {
				return fmt.Sprintf(format, v[1:]...)
			}
		}
	case time.Duration, time.Time, error: // handlers have a form of their own for these
	case fmt.Stringer:
		return fmt.Sprint(v)
	}
	return value
}
