package processes

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// application is a process that uses the SDK at one agent's socket, and does
// what the test tells it.
type application struct {
	c    *cluster
	at   *agent
	proc *process

	mu      sync.Mutex // guards next, waiting and in
	next    int
	waiting map[int]chan answer
	in      *json.Encoder
	pipe    *os.File
}

// patience is how long the harness waits for an answer whose order bounds
// itself: it never decides anything.
const patience = 90 * time.Second

func (a *agent) application() *application { return a.applicationAs(spawn{}) }

// applicationAs starts this binary as one, or the program that s names.
func (a *agent) applicationAs(s spawn) *application {
	t := a.c.t
	t.Helper()
	theirIn, in, err := os.Pipe()
	must(t, err)
	out, theirOut, err := os.Pipe()
	must(t, err)
	if s.path == "" {
		s.path, s.part = self(t), partApplication
	}
	s.in, s.out, s.log = theirIn, theirOut, os.Stderr
	app := &application{c: a.c, at: a, waiting: map[int]chan answer{}, in: json.NewEncoder(in), pipe: in}
	app.proc = home.start(t, s)
	_, _ = theirIn.Close(), theirOut.Close()
	go app.listen(out)
	a.c.apps = append(a.c.apps, app)
	return app
}

// listen ends with the process.
func (a *application) listen(out *os.File) {
	defer func() { _ = out.Close() }()
	in := json.NewDecoder(out)
	for {
		var r answer
		err := in.Decode(&r)
		a.mu.Lock()
		if err != nil {
			for _, w := range a.waiting {
				close(w)
			}
			a.waiting = nil
			a.mu.Unlock()
			return
		}
		w := a.waiting[r.ID]
		delete(a.waiting, r.ID)
		a.mu.Unlock()
		if w != nil {
			w <- r
		}
	}
}

// begin gives an order; its answer comes through the channel, which is closed
// without one if the process ends.
func (a *application) begin(o order) <-chan answer {
	a.c.t.Helper()
	if o.Socket == "" {
		o.Socket = a.at.socket
	}
	w := make(chan answer, 1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		close(w)
		return w
	}
	a.next++
	o.ID = a.next
	a.waiting[o.ID] = w
	if err := a.in.Encode(o); err != nil {
		delete(a.waiting, o.ID)
		close(w)
	}
	return w
}

// outcome waits for an answer, of whatever outcome.
func (c *cluster) outcome(w <-chan answer, what string) answer {
	c.t.Helper()
	select {
	case r, ok := <-w:
		if !ok {
			c.t.Fatalf("%s: the application has ended", what)
		}
		return r
	case <-time.After(patience):
		c.t.Fatalf("%s: no answer for %s", what, patience)
	}
	return answer{}
}

// ask gives an order and waits for its answer, of whatever outcome.
func (a *application) ask(o order) answer {
	a.c.t.Helper()
	return a.c.outcome(a.begin(o), o.what())
}

func (o order) what() string { return fmt.Sprintf("%s %s", o.Do, o.Lock) }

// must gives an order that succeeds.
func (a *application) must(o order) answer {
	a.c.t.Helper()
	return a.c.good(a.begin(o), o.what())
}

// good waits for an answer that tells of success.
func (c *cluster) good(w <-chan answer, what string) answer {
	c.t.Helper()
	r := c.outcome(w, what)
	if r.Failure != nil {
		c.t.Fatalf("%s: %v", what, r.Failure)
	}
	return r
}

// open opens the session that has no name.
func (a *application) open(ttl time.Duration) *application {
	a.c.t.Helper()
	a.must(order{Do: "open", TTL: ttl})
	return a
}

func (a *application) lock(name string) answer {
	a.c.t.Helper()
	return a.must(order{Do: "lock", Lock: name})
}

// wait begins to wait for a lock, and returns once the cluster has so many
// waiters for it.
func (a *application) wait(name string, waiters uint64) <-chan answer {
	a.c.t.Helper()
	w := a.begin(order{Do: "lock", Lock: name, Patience: 80 * time.Second})
	a.c.waiters(name, waiters)
	return w
}

// waiters waits until so many wait for a lock.
func (c *cluster) waiters(name string, n uint64) {
	c.t.Helper()
	until(c.t, formTime, fmt.Sprintf("%d wait for %s", n, name), func() error {
		for _, a := range c.agents {
			if !a.up() {
				continue
			}
			info, err := a.get(name)
			if err == nil && info.Waiters != n {
				err = fmt.Errorf("%d do", info.Waiters)
			}
			return err
		}
		return nil
	})
}

// watched is what a holder saw of its own handle until now.
func (a *application) watched(name string) watchLog {
	a.c.t.Helper()
	return *a.must(order{Do: "report", Lock: name}).Watch
}

// kill kills it and waits for its end.
func (a *application) kill() {
	a.proc.kill()
	_ = a.pipe.Close()
}
