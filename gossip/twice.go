package gossip

import (
	"log/slog"
	"maps"
	"slices"
	"time"
)

const (
	// twiceEvery is the pause between warnings of one name.
	twiceEvery = time.Minute
	// twiceMax bounds the warnings of one look, and so what is logged a minute.
	twiceMax = 8
)

// twice warns of agents that live under one name. For as long as it takes to
// notice that the former start of an agent is dead, every restart looks so.
type twice struct {
	after time.Duration
	// since when a name is used twice, and when it was warned of last.
	since, warned map[string]time.Time
}

func newTwice(after time.Duration) *twice {
	return &twice{after: after, since: make(map[string]time.Time), warned: make(map[string]time.Time)}
}

func (t *twice) look(now time.Time, twins map[string][]sighting, log *slog.Logger) {
	gone := func(name string, _ time.Time) bool { return len(twins[name]) == 0 }
	maps.DeleteFunc(t.since, gone)
	maps.DeleteFunc(t.warned, gone)
	warnings := 0
	for _, name := range slices.Sorted(maps.Keys(twins)) {
		if _, ok := t.since[name]; !ok {
			t.since[name] = now
		}
		last, ok := t.warned[name]
		if now.Sub(t.since[name]) < t.after || ok && now.Sub(last) < twiceEvery || warnings == twiceMax {
			continue
		}
		t.warned[name] = now
		warnings++
		warnTwice(name, twins[name], log)
	}
}

func warnTwice(name string, starts []sighting, log *slog.Logger) {
	one, other := starts[0], starts[1]
	message := "two agents have one name, and only one of them is seen: change --name of one"
	if one.card.serverID == other.card.serverID && one.card.serverID != "" {
		message = "two agents have one name and one server id: one data directory was copied or is used twice; stop one agent"
	}
	log.Warn(message, slog.String(keyAgent, name), slog.Int("living", len(starts)),
		slog.String("one", one.card.address+" (gossip "+text(one.gossip)+")"), slog.String("other", other.card.address+" (gossip "+text(other.gossip)+")"))
}
