package consensus

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// libraryStream is a pipeListener as the library's transport wants it.
type libraryStream struct{ *pipeListener }

func (s libraryStream) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return s.pipeListener.Dial("", string(to), timeout)
}

// library is the library's transport, with what ends a pipeline from outside:
// one that is parked would keep its server from shutting down.
type library struct {
	*raft.NetworkTransport
	mu    sync.Mutex
	pipes []raft.AppendPipeline
}

func (l *library) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := l.NetworkTransport.AppendEntriesPipeline(id, to)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.pipes = append(l.pipes, p)
	}
	return p, err
}

func (l *library) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pipes {
		_ = p.Close()
	}
}

// TestRefusedWritesParkNoFollower is hashicorp/raft#612 on the library's own
// transport: a follower that refuses an entry while others are under way is sent
// nothing any more, for good, and its heartbeats look healthy. When the first half
// fails, the library was mended, and slowPath may let pipelines through.
func TestRefusedWritesParkNoFollower(t *testing.T) {
	for _, test := range []struct {
		name  string
		trans func(*pipeListener) raft.Transport
		parks bool
	}{
		{"library alone", func(l *pipeListener) raft.Transport {
			return &library{NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
				Stream: libraryStream{l}, MaxPool: 3, Timeout: time.Second, Logger: newHCLog(testLog()),
			})}
		}, true},
		{"ours", func(l *pipeListener) raft.Transport {
			o := DefaultTransportOptions()
			o.Log = testLog()
			return slowPath{preVoting: NewTransport(l, o)}
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				if behind := refusing(t, test.trans); (behind > 0) != test.parks {
					t.Errorf("20 s after its last refusal the follower is %d entries behind", behind)
				}
			})
		})
	}
}

// refusing lets a follower refuse entries now and then, under load, and reports
// how far behind it is long after.
func refusing(t *testing.T, trans func(*pipeListener) raft.Transport) (behind uint64) {
	var ends []func()
	c := newBare(t, func(l *pipeListener) raft.Transport {
		made := trans(l)
		if lib, ok := made.(*library); ok {
			ends = append(ends, lib.end)
		}
		return made
	}, nil)
	defer func() {
		for _, end := range ends {
			end()
		}
		c.close()
	}()
	lead := c.lead(-1)
	follower := (lead + 1) % len(c.nodes)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range 6000 {
			c.nodes[lead].Apply([]byte("x"), 0)
			time.Sleep(time.Millisecond)
		}
	}()
	disk := c.disks[follower]
	disk.set(func() { disk.delay = time.Millisecond })
	for range 40 {
		time.Sleep(100 * time.Millisecond)
		disk.set(func() { disk.fail = errors.New("no space left on device") })
		time.Sleep(5 * time.Millisecond)
		disk.set(func() { disk.fail = nil })
	}
	<-over
	time.Sleep(20 * time.Second)
	if c.nodes[lead].State() != raft.Leader {
		t.Fatal("the leader changed: it says nothing")
	}
	return c.nodes[lead].AppliedIndex() - c.nodes[follower].AppliedIndex()
}
