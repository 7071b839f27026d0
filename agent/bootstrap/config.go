package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/raftlock/raftlock/link/linkpb"
)

// Bounds on what a peer may send.
const (
	nameBytesMax    = 255
	addressBytesMax = 512
)

// Member is an entry of the gossip view. It is a hint: nothing lasting is
// decided by it alone.
type Member struct {
	// Name orders the founders. It is to be unique in the pool; of several living
	// agents of one name the first in view may be listed.
	Name string
	// Address is of its peer port.
	Address string
	// ServerID is the random id of its data directory.
	ServerID string
	// ClusterID it says it belongs to; empty: none.
	ClusterID string
	// Forwarder: it was told never to vote, so it is on nobody's list.
	Forwarder bool
	// Incarnation is drawn at each start; a restart counts as a change of view.
	Incarnation uint64
}

// View is the agent's view of the gossip pool, itself included. Its methods are
// called from any goroutine, must not block and must not call Bootstrap.
type View interface {
	Members() []Member
	// Changed returns a channel that is closed, or sent to, when Members changed
	// after this call.
	Changed() <-chan struct{}
}

// Store keeps what must outlive the process. One goroutine at a time calls it.
type Store interface {
	// Load returns nil for a key that was never saved.
	Load(key string) ([]byte, error)
	// Save is atomic, and durable when it returns nil. After an error nothing is
	// known; Bootstrap then calls neither method again.
	Save(key string, value []byte) error
}

// Asker asks the agent at an address one question. It is called from several
// goroutines at once and must heed ctx. Who answered is for Bootstrap to check.
type Asker interface {
	Ask(ctx context.Context, address string, q *linkpb.Question) (*linkpb.Answer, error)
}

// Config of a Bootstrap. Start from DefaultConfig.
type Config struct {
	// Name, Address (of the peer port) and ServerID are this agent's own. The
	// name must not change while a first start is under way.
	Name, Address, ServerID string
	// Expect is the number of voters to begin with: 1, 3 or 5, the same on every
	// agent. Danger: with 1 this agent makes a cluster alone, unless it sees one.
	Expect int
	// Initial, if not empty, names exactly the agents of the first list; there
	// are Expect of them. It must be the same on every agent.
	Initial []string
	// Forwarder: this agent never founds and never promises, it only follows.
	Forwarder bool

	View  View
	Store Store
	Ask   Asker
	Log   *slog.Logger
	// Rand gives cluster ids and jitter. It must be cryptographic in production;
	// only the goroutine of Run and Watch reads it.
	Rand io.Reader

	// Still is how long the candidates in view must not change before this agent
	// stands. Default 3 s.
	Still time.Duration
	// AskTimeout bounds one question. Default 2 s.
	AskTimeout time.Duration
	// Round is the pause between a founder's rounds of asking, and between a
	// promised agent's questions to its founder. Default 1 s.
	Round time.Duration
	// Patience is how long a founder keeps an incomplete list, and so other
	// agents' promises, before it abandons it; up to half is added at random.
	// Default 10 s.
	Patience time.Duration
	// Shun is how long a founder then leaves out who would not or could not
	// promise, while there are others. Default 15 s.
	Shun time.Duration
	// Loud is the pause between warnings about what needs a person. Default 10 s.
	Loud time.Duration
}

// DefaultConfig has every duration, and expects five.
func DefaultConfig() Config {
	return Config{
		Expect:     5,
		Still:      3 * time.Second,
		AskTimeout: 2 * time.Second,
		Round:      time.Second,
		Patience:   10 * time.Second,
		Shun:       15 * time.Second,
		Loud:       10 * time.Second,
	}
}

// Validate reports everything that is wrong, at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(!fits(c.Name, nameBytesMax), "name must have 1 to %d bytes", nameBytesMax)
	bad(!fits(c.Address, addressBytesMax), "address must have 1 to %d bytes", addressBytesMax)
	bad(!fits(c.ServerID, nameBytesMax), "server id must have 1 to %d bytes", nameBytesMax)
	bad(c.Expect != 1 && c.Expect != 3 && c.Expect != 5, "expect is %d: it must be 1, 3 or 5", c.Expect)
	bad(len(c.Initial) > 0 && len(c.Initial) != c.Expect, "initial names %d agents, expect says %d", len(c.Initial), c.Expect)
	for i, name := range c.Initial {
		bad(!fits(name, nameBytesMax), "initial name %q must have 1 to %d bytes", name, nameBytesMax)
		bad(slices.Contains(c.Initial[:i], name), "initial names %q twice", name)
	}
	bad(c.View == nil || c.Store == nil || c.Ask == nil || c.Log == nil || c.Rand == nil,
		"view, store, asker, log and randomness must be handed in")
	for _, d := range []time.Duration{c.Still, c.AskTimeout, c.Round, c.Patience, c.Shun, c.Loud} {
		bad(d <= 0, "durations must be above zero")
	}
	bad(c.Patience <= c.AskTimeout, "patience %s must be above one question's %s", c.Patience, c.AskTimeout)
	return errors.Join(errs...)
}

func fits(s string, bytesMax int) bool { return s != "" && len(s) <= bytesMax }
