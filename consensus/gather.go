package consensus

import "time"

// Bounds of what a round waits for company.
const (
	// gatherShare: at most the last round's time by this, and
	gatherMax   = 5 * time.Millisecond
	gatherShare = 2
	// After so many waits in vain in a row, only every gatherProbe-th round
	// that could wait does.
	gatherVainMax = 3
	gatherProbe   = 32
)

// gather decides how long a round waits for more commands before it begins.
//
// Most clients ask again only when they were answered, so those of one round
// come back together, moments after it. If the next round began with the first
// of them, the others would be left for the one after: two crowds would take
// turns, each command waiting for the other crowd's round as well as for its
// own, in twice as many entries. So a round waits until as many have come as
// the last one answered, for a part of the time that waiting for another round
// would take.
//
// Who comes alone waits for nobody, and where clients do not come back, waiting
// soon stops. The proposer alone uses it.
type gather struct {
	answered int           // commands of the last round; 0 once they were waited for
	took     time.Duration // the last round
	vain     int           // waits in a row that brought less than half of them
	passed   int           // rounds since the last wait
}

// rounded notes that a round has ended.
func (g *gather) rounded(commands int, took time.Duration) { g.answered, g.took = commands, took }

// next says how many commands to wait for, now that queued ones are there, and
// how long at most. 0: begin.
func (g *gather) next(queued int) (want int, most time.Duration) {
	answered := g.answered
	if answered+queued <= 1 || answered == 0 {
		g.answered = 0
		return 0, 0
	}
	if g.vain >= gatherVainMax && g.passed < gatherProbe {
		g.passed++
		g.answered = 0
		return 0, 0
	}
	g.passed = 0
	return min(answered+queued, entryCommandsMax), min(g.took/gatherShare, gatherMax)
}

// waited notes how many were queued before and after a wait.
func (g *gather) waited(before, after int) {
	switch {
	case after == 0: // nobody was kept waiting
	case 2*(after-before) < g.answered:
		g.vain++
	default:
		g.vain = 0
	}
	g.answered = 0
}

// linger waits for company. False: leadership may have changed, look again.
func (l *Leadership) linger() bool {
	before := l.expect(0)
	want, most := l.gather.next(before)
	if want <= before {
		return true
	}
	defer l.expect(0)
	timer := time.NewTimer(most)
	defer timer.Stop()
	have := l.expect(want)
	for late := false; have < want && !late; {
		select {
		case <-l.wake:
		case <-timer.C:
			late = true
		case <-l.node.poke:
			return false
		case <-l.node.closing:
			return false
		}
		have = l.expect(want)
	}
	l.gather.waited(before, have)
	return true
}
