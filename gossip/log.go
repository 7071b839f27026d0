package gossip

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
)

// Keys of the log.
const (
	keyAgent     = "agent"
	keyAddress   = "address"
	keyComponent = "component"
	keyError     = "error"
)

// lineBytesMax bounds what Serf logs, since it quotes strangers.
const lineBytesMax = 1024

// lines takes what Serf and memberlist log and hands it on, each line at its
// level. It is safe from any goroutine.
type lines struct{ log *slog.Logger }

func newSerfLogger(to *slog.Logger) *log.Logger {
	return log.New(lines{to.With(slog.String(keyComponent, "serf"))}, "", 0)
}

var _ io.Writer = lines{}

// Write never fails and never keeps line.
func (l lines) Write(line []byte) (int, error) {
	level, rest := levelOf(line)
	if ctx := context.Background(); l.log.Enabled(ctx, level) { // nothing to cancel here
		rest = bytes.TrimSpace(rest)
		if len(rest) > lineBytesMax {
			rest = rest[:lineBytesMax]
		}
		l.log.Log(ctx, level, "gossip library", slog.String("line", string(bytes.ToValidUTF8(rest, []byte("?")))))
	}
	return len(line), nil
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
			slog.String("gossip", m.GossipAddress), slog.String("server_id", m.ServerID),
			slog.String("cluster_id", m.ClusterID), slog.String("role", m.Role))
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
