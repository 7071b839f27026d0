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
// notice that the former start of an agent is dead, every restart looks so; two
// server ids at two addresses do not, and are warned of soon.
type twice struct {
	after time.Duration
	// since when a name is used twice, since when by what is no restart, and when
	// it was warned of last.
	since, two, warned map[string]time.Time
}

func newTwice(after time.Duration) *twice {
	return &twice{after: after, since: make(map[string]time.Time), two: make(map[string]time.Time), warned: make(map[string]time.Time)}
}

func (t *twice) look(now time.Time, twins map[string][]sighting, log *slog.Logger) {
	gone := func(name string, _ time.Time) bool { return len(twins[name]) == 0 }
	maps.DeleteFunc(t.since, gone)
	maps.DeleteFunc(t.warned, gone)
	maps.DeleteFunc(t.two, func(name string, _ time.Time) bool { return len(pair(twins[name])) == 0 })
	warnings := 0
	for _, name := range slices.Sorted(maps.Keys(twins)) {
		if _, ok := t.since[name]; !ok {
			t.since[name] = now
		}
		if _, ok := t.two[name]; !ok && len(pair(twins[name])) > 0 {
			t.two[name] = now
		}
		last, ok := t.warned[name]
		if !t.due(name, now) || ok && now.Sub(last) < twiceEvery || warnings == twiceMax {
			continue
		}
		t.warned[name] = now
		warnings++
		warnTwice(name, twins[name], log)
	}
}

// due reports whether the patience with a name is over.
func (t *twice) due(name string, now time.Time) bool {
	two, ok := t.two[name]
	return now.Sub(t.since[name]) >= t.after || ok && now.Sub(two) >= twoAfter
}

// pair returns two of the starts that are no restart of each other, if any.
func pair(starts []sighting) []sighting {
	for i, one := range starts {
		for _, other := range starts[i+1:] {
			if !one.mayBe(other) {
				return []sighting{one, other}
			}
		}
	}
	return nil
}

func warnTwice(name string, starts []sighting, log *slog.Logger) {
	message := "two agents have one name: start one of them with another --name"
	two := pair(starts)
	if len(two) == 0 {
		two = starts[:2]
	}
	one, other := two[0], two[1]
	if one.card.serverID == other.card.serverID && one.card.serverID != "" {
		message = "two agents have one name and one server id: one data directory was copied or is used twice; stop one agent"
	}
	log.Warn(message, slog.String(keyAgent, name), slog.Int("living", len(starts)),
		slog.String("one", where(one)), slog.String("one_server_id", one.card.serverID),
		slog.String("other", where(other)), slog.String("other_server_id", other.card.serverID))
}

func where(s sighting) string { return s.card.address + " (gossip " + text(s.gossip) + ")" }
