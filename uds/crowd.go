package uds

import (
	"cmp"
	"container/list"
	"errors"
	"os"
	"slices"
	"sync"
)

// Reasons to refuse a connection.
var (
	errFull     = errors.New("too many connections")
	errFullUser = errors.New("too many connections of one user")
	errStopping = errors.New("the server is stopping")
)

// keptMax are places that only the superuser and this process's own user may
// take: whoever is to mend a crowd, or to see that the agent lives, gets in.
const keptMax = 16

// crowd counts connections, and closes silent ones where others need the room,
// and those on which nothing is under way: their clients make new ones.
type crowd struct {
	max, userMax, silentMax, idleMax int
	own                              uint32

	// mu guards the rest.
	mu      sync.Mutex
	closed  bool
	members map[*conn]struct{}
	users   map[uint32]int
	silent  []*conn    // oldest first
	idle    *list.List // of *conn; the one that is idle for longest first
}

func newCrowd(c Config) *crowd {
	return &crowd{
		max:       c.Connections,
		userMax:   max(1, c.Connections/4*3),
		silentMax: c.Silent,
		idleMax:   max(1, c.Connections/4),
		own:       uint32(os.Geteuid()),
		idle:      list.New(),
		members:   make(map[*conn]struct{}),
		users:     make(map[uint32]int),
	}
}

// enter counts a connection in as silent. It may close another for it.
func (d *crowd) enter(c *conn) error {
	evicted, err := d.admit(c)
	if evicted != nil {
		_ = evicted.Close()
	}
	return err
}

func (d *crowd) admit(c *conn) (evicted *conn, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	uid := c.peer.UID
	room := d.max
	if uid == 0 || uid == d.own {
		room += keptMax
	}
	switch {
	case d.closed:
		return nil, errStopping
	case d.users[uid] >= d.userMax:
		if evicted = cmp.Or(d.oldestSilent(uid), d.longestIdle(func(c *conn) bool { return c.peer.UID == uid })); evicted == nil {
			return nil, errFullUser
		}
	case len(d.members) >= room || len(d.silent) >= d.silentMax:
		if evicted = cmp.Or(d.oldestSilent(d.mostSilent()), d.longestIdle(func(*conn) bool { return true })); evicted == nil {
			return nil, errFull
		}
	}
	if evicted != nil {
		d.remove(evicted)
	}
	d.members[c] = struct{}{}
	d.users[uid]++
	d.silent = append(d.silent, c)
	return evicted, nil
}

// mostSilent is the user with most silent connections; needs mu.
func (d *crowd) mostSilent() (uid uint32) {
	counts := make(map[uint32]int)
	for _, c := range d.silent {
		counts[c.peer.UID]++
		if counts[c.peer.UID] > counts[uid] {
			uid = c.peer.UID
		}
	}
	return uid
}

// oldestSilent may be nil; needs mu.
func (d *crowd) oldestSilent(uid uint32) *conn {
	for _, c := range d.silent {
		if c.peer.UID == uid {
			return c
		}
	}
	return nil
}

// longestIdle may be nil; needs mu.
func (d *crowd) longestIdle(of func(*conn) bool) *conn {
	for e := d.idle.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*conn); of(c) {
			return c
		}
	}
	return nil
}

// calls: so many more of gRPC, or fewer, are under way on a connection. The first
// and the last one of them change whether it rests.
func (d *crowd) calls(c *conn, more int) {
	d.mu.Lock()
	before := c.calls > 0
	c.calls += more
	now := c.calls > 0
	var evicted *conn
	if now != before {
		evicted = d.rest(c, !now)
	}
	d.mu.Unlock()
	if evicted != nil {
		_ = evicted.Close()
	}
}

// rests: nothing is under way on a connection, or something is. It may close one
// for which that is so for longer.
func (d *crowd) rests(c *conn, idle bool) {
	d.mu.Lock()
	evicted := d.rest(c, idle)
	d.mu.Unlock()
	if evicted != nil {
		_ = evicted.Close()
	}
}

// rest needs mu. It may name a connection to be closed.
func (d *crowd) rest(c *conn, idle bool) (evicted *conn) {
	d.unidle(c)
	if _, in := d.members[c]; in && idle {
		c.idle = d.idle.PushBack(c)
		if d.idle.Len() > d.idleMax {
			evicted = d.idle.Front().Value.(*conn)
			d.remove(evicted)
		}
	}
	return evicted
}

func (d *crowd) unidle(c *conn) {
	if c.idle != nil {
		d.idle.Remove(c.idle)
		c.idle = nil
	}
}

// heard: the connection is no longer silent.
func (d *crowd) heard(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unsilence(c)
}

func (d *crowd) unsilence(c *conn) {
	if i := slices.Index(d.silent, c); i >= 0 {
		d.silent = slices.Delete(d.silent, i, i+1)
	}
}

// leave counts a connection out; safe to repeat.
func (d *crowd) leave(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(c)
}

func (d *crowd) remove(c *conn) {
	if _, ok := d.members[c]; !ok {
		return
	}
	delete(d.members, c)
	d.unsilence(c)
	d.unidle(c)
	if d.users[c.peer.UID]--; d.users[c.peer.UID] == 0 {
		delete(d.users, c.peer.UID)
	}
}

// close closes silent connections, and lets none in any more.
func (d *crowd) close() {
	d.mu.Lock()
	d.closed = true
	silent := slices.Clone(d.silent)
	d.mu.Unlock()
	for _, c := range silent {
		_ = c.Close()
	}
}
