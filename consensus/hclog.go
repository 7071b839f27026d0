package consensus

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"

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
}

func newHCLog(to *slog.Logger) hclog.Logger {
	return &hcLog{Logger: hclog.NewNullLogger(), to: to}
}

func (l *hcLog) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *hcLog) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *hcLog) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *hcLog) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *hcLog) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *hcLog) Log(level hclog.Level, msg string, args ...any) {
	if !l.enabled(level) {
		return
	}
	l.to.Log(context.Background(), slogLevel(level), msg, rendered(args)...)
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
	return &hcLog{Logger: l.Logger, to: l.to.With(rendered(args)...), name: l.name}
}

func (l *hcLog) Name() string { return l.name }

func (l *hcLog) Named(name string) hclog.Logger { return l.ResetNamed(name) }

func (l *hcLog) ResetNamed(name string) hclog.Logger {
	return &hcLog{Logger: l.Logger, to: l.to, name: name}
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
	"from":             key.Node,
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

// rendered gives raft's keys our names, and turns hclog's deferred formats into
// text and members into their ids.
func rendered(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		if k, ok := a.(string); ok && i%2 == 0 {
			a = keyOf(k)
		}
		switch v := a.(type) {
		case raft.Server:
			a = string(v.ID)
		case *raft.Raft:
			if i%2 == 1 {
				out[i-1] = keySelf // it is called node, follower or leader
			}
		}
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			if format, ok := f[0].(string); ok {
				a = fmt.Sprintf(format, f[1:]...)
			}
		}
		out[i] = a
	}
	return out
}
