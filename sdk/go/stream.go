package raftlock

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// messageBytesMax bounds what an agent may send: the answer to a reconcile
// names every wait and hold of the session.
const messageBytesMax = 16 << 20

// windowBytes is how much of one stream, and of one connection, may be on its
// way unread.
const windowBytes = 1 << 20

// Stream is one session stream to an agent. One goroutine sends, one receives;
// after an error it is dead. A sent message is not changed afterwards.
type Stream interface {
	Send(*raftlockv1.SessionRequest) error
	Recv() (*raftlockv1.SessionResponse, error)
	// Close ends the stream: blocked Sends and Recvs return an error. Safe to
	// repeat and from any goroutine; it must not wait for the far end.
	Close() error
}

// socketStream owns its connection. One connection a stream: a shared one would
// back off on its own, behind the session's back.
type socketStream struct {
	raftlockv1.RaftLock_SessionClient
	cancel context.CancelFunc
	conn   *grpc.ClientConn
}

func dialSocket(ctx context.Context, path string) (Stream, error) {
	conn, err := newConn(dialUnix(path))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", path, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := raftlockv1.NewRaftLockClient(conn).Session(ctx)
	if err != nil {
		cancel()
		_ = conn.Close()
		return nil, fmt.Errorf("dial %s: %w", path, err)
	}
	return &socketStream{RaftLock_SessionClient: stream, cancel: cancel, conn: conn}, nil
}

func (s *socketStream) Close() error {
	s.cancel()
	return s.conn.Close()
}
