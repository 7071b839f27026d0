package gossip

import (
	"log/slog"

	"github.com/hashicorp/serf/serf"
)

// strangersMax is how many nodes are remembered as not understood. Past it all
// are forgotten, and may be logged once more.
const strangersMax = 256

// strangers logs each node that is not understood once.
type strangers struct {
	log  *slog.Logger
	seen map[string]bool
}

func newStrangers(log *slog.Logger) *strangers {
	return &strangers{log: log, seen: make(map[string]bool)}
}

func (s *strangers) met(m *serf.Member, why error) {
	name := m.Name[:min(len(m.Name), 2*nameBytesMax)]
	if s.seen[name] {
		return
	}
	if len(s.seen) == strangersMax {
		clear(s.seen)
	}
	s.seen[name] = true
	s.log.Warn("a gossip member is not understood, and left out", slog.String("node", name),
		slog.String("gossip", text(addressOf(m))), slog.Any(keyError, why))
}
