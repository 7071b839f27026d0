package agent

import "sync"

// outboxMax bounds the frames that wait to be sent on one end of a link; past it
// the link breaks.
const outboxMax = 1 << 16

// outbox is a queue before a connection, so that nobody waits for it.
type outbox[F any] struct {
	conn interface {
		Send([]F) error
		Close()
	}
	mu    sync.Mutex // guards queue and dead
	queue []F
	dead  bool
	ready chan struct{} // capacity 1
	done  chan struct{} // closed when dead
}

// Send queues a frame. It never blocks.
func (o *outbox[F]) Send(f F) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.dead:
	case len(o.queue) >= outboxMax:
		o.endLocked()
	default:
		o.queue = append(o.queue, f)
		signal(o.ready)
	}
}

// close ends the link. It does not wait, and is safe to repeat.
func (o *outbox[F]) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endLocked()
}

func (o *outbox[F]) endLocked() {
	if !o.dead {
		o.dead = true
		close(o.done)
	}
}

// write sends what is queued until the link ends, and closes the connection.
func (o *outbox[F]) write() {
	var closer sync.WaitGroup
	closer.Go(func() { <-o.done; o.conn.Close() }) // a Send that hangs must see it
	defer closer.Wait()
	defer o.close()
	for {
		select {
		case <-o.ready:
		case <-o.done:
			return
		}
		o.mu.Lock()
		batch := o.queue
		o.queue = nil
		o.mu.Unlock()
		if len(batch) > 0 && o.conn.Send(batch) != nil {
			return
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
