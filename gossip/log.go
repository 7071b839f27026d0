package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/raftlock/raftlock/telemetry/key"
)

// Keys of the log.
const (
	keyAgent     = key.Agent
	keyAddress   = key.Address
	keyComponent = key.Component
	keyError     = key.Error
)

const (
	// lineBytesMax bounds what Serf logs, since it quotes strangers.
	lineBytesMax = 1024
	// linesMax are handed on in linesWindow, since a stranger's every packet can
	// be worth a line. Debug is not counted: who asks for it gets it.
	linesMax    = 100
	linesWindow = 10 * time.Second
)

// lines takes what Serf and memberlist log and hands it on, each line at its
// level. It is safe from any goroutine.
type lines struct {
	log *slog.Logger

	// mu guards the count of the window that began at since.
	mu                sync.Mutex
	since             time.Time
	count, leftUntold int
}

func newSerfLogger(to *slog.Logger) *log.Logger {
	return log.New(&lines{log: to.With(slog.String(keyComponent, "serf"))}, "", 0)
}

// Write never fails and never keeps line.
func (l *lines) Write(line []byte) (int, error) {
	level, rest := levelOf(line)
	ctx := context.Background() // nothing to cancel here
	if !l.log.Enabled(ctx, level) || level > slog.LevelDebug && !l.take() {
		return len(line), nil
	}
	rest = bytes.TrimSpace(rest)
	if len(rest) > lineBytesMax {
		rest = rest[:lineBytesMax]
	}
	l.log.Log(ctx, level, "gossip library", slog.String("line", string(bytes.ToValidUTF8(rest, []byte("?")))))
	return len(line), nil
}

// take reports whether one more line may be told in this window. The first of a
// new one tells how many were not.
func (l *lines) take() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.since.IsZero() || now.Sub(l.since) >= linesWindow {
		if l.leftUntold > 0 {
			l.log.Warn("lines of the gossip library were left untold", slog.Int("lines", l.leftUntold))
		}
		l.since, l.count, l.leftUntold = now, 0, 0
	}
	if l.count == linesMax {
		l.leftUntold++
		return false
	}
	l.count++
	return true
}

func levelOf(line []byte) (slog.Level, []byte) {
	for prefix, level := range map[string]slog.Level{
		"[DEBUG]": slog.LevelDebug, "[INFO]": slog.LevelInfo, "[WARN]": slog.LevelWarn, "[ERR]": slog.LevelError, "[ERROR]": slog.LevelError,
	} {
		if rest, ok := bytes.CutPrefix(line, []byte(prefix)); ok {
			return level, rest
		}
	}
	return slog.LevelInfo, line
}

// logChanges tells what became of whom. Both are sorted by name.
func logChanges(log *slog.Logger, old, next []Member) {
	before := make(map[string]Member, len(old))
	for _, m := range old {
		before[m.Name] = m
	}
	for _, m := range next {
		was, known := before[m.Name]
		delete(before, m.Name)
		if known && was == m {
			continue
		}
		log.Info(change(was, m, known), slog.String(keyAgent, m.Name), slog.String(keyAddress, m.Address),
			slog.String("gossip", m.GossipAddress), slog.String(key.Node, m.ServerID),
			slog.String(key.Cluster, m.ClusterID), slog.Bool("forwarder", m.Forwarder))
	}
	for name := range before {
		log.Info("agent is gone", slog.String(keyAgent, name))
	}
}

func change(was, m Member, known bool) string {
	switch {
	case !known:
		return "agent appeared"
	case was.Alive && !m.Alive:
		return "agent failed"
	case was.Incarnation != m.Incarnation:
		return "agent started anew"
	case !was.Alive && m.Alive:
		return "agent is back"
	default:
		return "agent changed"
	}
}
