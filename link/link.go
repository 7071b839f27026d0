package link

import (
	"context"
	"errors"

	"github.com/raftlock/raftlock/link/linkpb"
)

// Frames of a link, as the rest of the tree calls them.
type (
	// Up is a frame from an agent to the leader.
	Up = linkpb.Up
	// Down is a frame from the leader to an agent.
	Down = linkpb.Down
)

// ErrRefused is wrapped by the error of a Dial whose Welcome said no; the
// Welcome beside it says why.
var ErrRefused = errors.New("link refused")

// Network is how an agent reaches the peer ports of others. The production one
// is gRPC over TCP; tests hand in a simulated one.
type Network interface {
	// Dial opens a link to the agent at addr. With a refusal it returns the
	// Welcome and an error that wraps ErrRefused.
	Dial(ctx context.Context, addr string, hello *linkpb.Hello) (UpConn, *linkpb.Welcome, error)
	// Ask sends one question to the agent at addr and waits for its answer.
	Ask(ctx context.Context, addr string, q *linkpb.Question) (*linkpb.Answer, error)
}

// UpConn is the agent's end of a link. Frames of one Send arrive together and
// in order. One goroutine sends, one receives. After an error the link is dead.
type UpConn interface {
	Send([]*Up) error
	Recv() ([]*Down, error)
	// Close ends the link; both ends' Recv return an error. Safe to repeat and
	// from any goroutine.
	Close()
}

// DownConn is the leader's end.
type DownConn interface {
	Send([]*Down) error
	Recv() ([]*Up, error)
	Close()
}

// Handler is what the peer port serves; the agent implements it.
type Handler interface {
	// Admit judges a hello. A Welcome with a refusal ends the link.
	Admit(hello *linkpb.Hello) *linkpb.Welcome
	// Link serves an admitted link and returns when it is over. The Welcome was
	// sent before.
	Link(hello *linkpb.Hello, welcome *linkpb.Welcome, conn DownConn)
	// Answer answers one question. It must not block on Raft.
	Answer(ctx context.Context, q *linkpb.Question) (*linkpb.Answer, error)
}
