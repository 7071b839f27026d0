package consensus

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/fsm/command"
)

// heard is a member's log.
type heard struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.Write(b)
}

func (h *heard) has(line string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Contains(h.buf.String(), line)
}

func TestVotesTermsAndMembersAreTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		logs := make(map[ServerID]*heard)
		var mu sync.Mutex // guards logs
		of := func(id ServerID) *heard {
			mu.Lock()
			defer mu.Unlock()
			if logs[id] == nil {
				logs[id] = &heard{}
			}
			return logs[id]
		}
		c := newCluster(t, 3, 1, func(cfg *Config) {
			cfg.Log = slog.New(slog.NewTextHandler(of(cfg.ServerID), nil))
		})
		defer c.close()
		for round := range 2 {
			m, l := c.leader()
			if m.node.Elections() == 0 {
				t.Errorf("%s leads, and stood in no election", m.id)
			}
			stands := fmt.Sprintf("msg=\"stands in an election\" component=consensus term=%d\n", l.Term())
			if !of(m.id).has(stands) {
				t.Errorf("%s does not tell that it stands in term %d", m.id, l.Term())
			}
			voted := fmt.Sprintf("msg=voted component=consensus term=%d address=%s", l.Term(), m.addr)
			if round > 0 {
				voted += fmt.Sprintf(" candidate=%s\n", m.id)
			}
			until(t, "a majority chose it, and says so", func() bool {
				votes := 1
				for _, f := range c.followers(m) {
					if of(f.id).has(voted) {
						votes++
					}
				}
				return votes >= 2
			})
			for _, x := range c.members {
				until(t, "all tell the members", func() bool {
					return of(x.id).has("msg=members component=consensus") && of(x.id).has(`voters="[s0 s1 s2]" standbys=[s3]`)
				})
				role := "voter"
				if x.id == "s3" {
					role = "standby"
				}
				if !of(x.id).has("msg=role component=consensus role=" + role) {
					t.Errorf("%s does not tell that it is a %s", x.id, role)
				}
				until(t, "all tell the term", func() bool {
					return of(x.id).has(fmt.Sprintf("msg=term component=consensus term=%d\n", l.Term()))
				})
			}
			// Once more, with the next leader.
			c.net.cut(m.addr, c.addrs(m)...)
			c.leader(m)
			c.net.heal()
			until(t, "deposed", func() bool { return m.side.leadership() == nil })
		}
		if n := c.members[3].node.Elections(); n != 0 {
			t.Errorf("a standby stood in %d elections", n)
		}
	})
}

// Who was removed and still runs is what status calls it.
func TestRemovedMemberTellsThatItForwards(t *testing.T) {
	var log heard
	w := &witness{log: slog.New(slog.NewTextHandler(&log, nil)), self: "s1"}
	for _, servers := range [][]raft.Server{{{ID: "s0"}, {ID: "s1"}}, {{ID: "s0"}}} {
		w.members(&raft.Log{Index: 7, Data: raft.EncodeConfiguration(raft.Configuration{Servers: servers})})
	}
	if !log.has("msg=role role=voter") || !log.has("msg=role role=forwarder") {
		t.Error("it does not tell what it is")
	}
}

// counted is Metrics.
type counted struct {
	commands atomic.Int64
	longest  atomic.Int64
}

func (c *counted) Committed(took time.Duration) {
	c.commands.Add(1)
	c.longest.Store(max(c.longest.Load(), int64(took)))
}

func TestCommitsAreMeasured(t *testing.T) {
	bubble(t, func(t *testing.T) {
		measured := &counted{}
		c := newCluster(t, 3, 0, func(cfg *Config) { cfg.Metrics = measured })
		defer c.close()
		_, l := c.leader()
		for i := range 5 {
			if a := propose(t, l, acquire(fmt.Sprint(i))); a.err != nil || a.result.GetCode() != command.Code_CODE_OK {
				t.Fatalf("propose: %v, %v", a.result, a.err)
			}
		}
		until(t, "measured", func() bool { return measured.commands.Load() == 5 })
		if took := time.Duration(measured.longest.Load()); took <= 0 || took > time.Second {
			t.Errorf("a commit took %v", took)
		}
	})
}
