package link

import (
	"errors"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// ErrBusy is wrapped by the error of an Ask when questions to as many other
// addresses as may be kept are under way. Nothing was sent; safe to repeat.
var ErrBusy = errors.New("too many peers asked at once")

// peers keeps one connection for each address that is asked, the least recently
// used making room. gRPC closes what is idle underneath.
type peers struct {
	connect func(addr string) (*grpc.ClientConn, error)

	// mu guards the rest, and the plain fields of every peer.
	mu     sync.Mutex
	closed bool
	known  map[string]*peer
	// retired are no longer known; who gives one last closes it.
	retired map[*peer]bool
	clock   uint64
}

type peer struct {
	addr string
	conn *grpc.ClientConn
	// answers counts the questions answered on this connection.
	answers atomic.Uint64
	asking  int
	used    uint64
}

func newPeers(connect func(string) (*grpc.ClientConn, error)) *peers {
	return &peers{connect: connect, known: map[string]*peer{}, retired: map[*peer]bool{}}
}

// take is followed by give.
func (ps *peers) take(addr string) (*peer, error) {
	var unused *peer
	defer func() {
		if unused != nil {
			_ = unused.conn.Close()
		}
	}()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return nil, ErrClosed
	}
	p := ps.known[addr]
	if p == nil {
		if len(ps.known) >= peersMax {
			if unused = ps.oldest(); unused == nil {
				return nil, ErrBusy
			}
			delete(ps.known, unused.addr)
		}
		conn, err := ps.connect(addr)
		if err != nil {
			return nil, err
		}
		p = &peer{addr: addr, conn: conn}
		ps.known[addr] = p
	}
	ps.clock++
	p.used = ps.clock
	p.asking++
	return p, nil
}

// oldest is the least recently used of those that nobody asks.
func (ps *peers) oldest() (oldest *peer) {
	for _, p := range ps.known {
		if p.asking == 0 && (oldest == nil || p.used < oldest.used) {
			oldest = p
		}
	}
	return oldest
}

// give takes a peer back. silent says that it answered nobody while a question
// timed out. If it seems connected all the same, the connection may be a dead
// one that TCP would nurse for many seconds: the next question makes a new one.
// One that is still connecting is left to it, or a slow network would never get
// there.
func (ps *peers) give(p *peer, silent bool) {
	ps.mu.Lock()
	p.asking--
	if silent && ps.known[p.addr] == p && p.conn.GetState() == connectivity.Ready {
		ps.retired[p] = true
		delete(ps.known, p.addr)
	}
	unused := p.asking == 0 && ps.retired[p]
	if unused {
		delete(ps.retired, p)
	}
	ps.mu.Unlock()
	if unused {
		_ = p.conn.Close()
	}
}

func (ps *peers) close() {
	ps.mu.Lock()
	ps.closed = true
	known, retired := ps.known, ps.retired
	ps.known, ps.retired = map[string]*peer{}, map[*peer]bool{}
	ps.mu.Unlock()
	for _, p := range known {
		_ = p.conn.Close()
	}
	for p := range retired {
		_ = p.conn.Close()
	}
}
