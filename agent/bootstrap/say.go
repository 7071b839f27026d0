package bootstrap

import (
	"fmt"
	"time"
)

// sayEvery is the pause between two equal lines on what a first start waits for.
const sayEvery = 30 * time.Second

// say logs what this agent waits for when that or the candidates in view
// changed, and again while it lasts: an agent that waits for ever must not do so
// in silence. Looks are at most Config.Loud apart, and with them what is said
// again. Why single peers did not promise changes all the time and is no news.
func (b *Bootstrap) say(v sight) {
	b.mu.Lock()
	n, decided := b.note, b.rec.Cluster != ""
	b.mu.Unlock()
	seen := names(v.candidates)
	now := fmt.Sprintf("%s %q", n.doing, seen)
	if decided || n.doing == "" || now == b.said && time.Since(b.saidAt) < sayEvery {
		return
	}
	b.said, b.saidAt = now, time.Now()
	attrs := []any{"have", len(seen), "want", b.cfg.Expect, "seen", seen}
	if n.detail == "" && len(n.of) > 0 {
		attrs = append(attrs, "of", n.of)
	}
	b.log.Info(n.doing, attrs...)
}
