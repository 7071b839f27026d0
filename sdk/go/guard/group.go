package guard

import "fmt"

// gather notes the record, puts it into a batch, and returns when that is on
// disk. The caller has the resource's turn.
func (g *Guard) gather(r record) error {
	if g.log == nil {
		g.note(r)
		return nil
	}
	for g.size+r.size() > batchBytesMax {
		if err := g.await(g.batch); err != nil {
			return err
		}
		if err := g.refuses(); err != nil {
			return err
		}
	}
	g.note(r)
	g.gathered = append(g.gathered, r)
	g.size += r.size()
	return g.await(g.batch)
}

func (g *Guard) note(r record) {
	if r.token == forgotten {
		delete(g.highest, r.resource)
		return
	}
	g.highest[r.resource] = r.token
}

// await returns when the batch is on disk. The first caller that finds nobody
// writing writes for all. With g.mu held, which it gives up meanwhile.
func (g *Guard) await(batch uint64) error {
	for g.synced < batch && g.err == nil {
		if g.writing {
			g.changed.Wait()
			continue
		}
		g.lead()
	}
	if g.synced >= batch {
		return nil
	}
	return g.err
}

// lead takes what was gathered to the disk, and keeps the log small. What comes
// meanwhile gathers for the next.
func (g *Guard) lead() {
	records, batch := g.gathered, g.batch
	g.gathered, g.size = nil, 0
	g.batch++
	g.writing = true
	g.mu.Unlock()
	err := g.log.append(records)
	g.mu.Lock()
	if err == nil {
		g.synced = batch
		g.changed.Broadcast() // they need not wait for a new log
		err = g.shorten()
	}
	if err != nil {
		g.err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	g.writing = false
	g.changed.Broadcast()
}

// shorten writes the log anew when it has grown to several times what it says.
// Tokens that wait for the next batch may be in it: they are accepted later, or
// never, and remembered in either case.
func (g *Guard) shorten() error {
	if !g.log.long() {
		return nil
	}
	records := make([]record, 0, len(g.highest))
	for resource, token := range g.highest {
		records = append(records, record{resource, token})
	}
	g.mu.Unlock()
	defer g.mu.Lock()
	return g.log.renew(records)
}
