package gossip

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// dialTimeoutMax keeps a join target that answers nothing from holding up the
// others: joins are made one after the other.
const dialTimeoutMax = 2 * time.Second

// bindTries is how often a free port is looked for that is free for both UDP
// and TCP.
const bindTries = 10

// transport is memberlist's own, but what it dials ends with Run, so that
// nothing waits for a peer that hangs.
type transport struct {
	*memberlist.NetTransport
	// running ends when Run is told to. The library's interface hands in none.
	running context.Context
}

// listen opens both sockets; port 0 takes any free one.
func listen(running context.Context, bind string, port int, logger *log.Logger) (*transport, error) {
	tries := 1
	if port == 0 {
		tries = bindTries
	}
	var err error
	for range tries {
		var sockets *memberlist.NetTransport
		sockets, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{bind}, BindPort: port, Logger: logger})
		if err == nil {
			return &transport{NetTransport: sockets, running: running}, nil
		}
	}
	return nil, fmt.Errorf("%w on %s port %d (UDP and TCP): %v: the address must be one of this host's and the port free: change --bind or --gossip-port", ErrListen, bind, port, err)
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: min(timeout, dialTimeoutMax)}
	c, err := dialer.DialContext(t.running, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, release: context.AfterFunc(t.running, func() { c.Close() })}, nil
}

// abandon closes a transport that no memberlist reads from: its goroutines may
// be about to hand over a packet or a connection, and Shutdown waits for them.
func (t *transport) abandon() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.Shutdown()
	}()
	for {
		select {
		case <-t.PacketCh():
		case c := <-t.StreamCh():
			c.Close()
		case <-done:
			return
		}
	}
}

// conn is closed when Run is told to end.
type conn struct {
	net.Conn
	release func() bool
}

func (c *conn) Close() error {
	c.release()
	return c.Conn.Close()
}
