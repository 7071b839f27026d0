package link

import (
	"time"

	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
)

// The versions of the peer protocol that this build speaks.
const (
	VersionMin = 1
	VersionMax = 1
)

// Bounds of the peer port.
const (
	// FramesMax bounds the frames of a batch; a Send of more is split.
	FramesMax = 4096
	// MessageBytesMax bounds a batch, a question and an answer.
	MessageBytesMax = 4 << 20

	// streamWindow is what may be on its way to one stream, and connWindow to
	// one connection. They are fixed: gRPC's estimate of them costs a ping and
	// its answer for nearly every message, which on a link is most of the cost.
	streamWindow = 256 << 10
	connWindow   = 512 << 10

	// asksMax bounds the calls in flight that one connection may have.
	asksMax = 1024
	// peersMax bounds the addresses whose connections are kept for Ask.
	peersMax = 64
	// idleTimeout closes the connection of an address not asked for so long.
	idleTimeout = 30 * time.Second

	// helloTimeout bounds how long a new connection may take to say what it is.
	helloTimeout = 5 * time.Second
	// undecidedMax bounds the connections that have not said it yet.
	undecidedMax = 128
	// backlogMax bounds the connections that said it and wait to be accepted.
	backlogMax = 64

	// pingAfter is the silence after which a transport is tried, and
	// pingTimeout how long it may take to answer: a peer that vanished is
	// noticed after both. gRPC takes no less than 10 s for the first.
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
)

// redial is how gRPC comes back to an address that refused or did not answer.
// An attempt is given up early: one more packet gets through sooner than a
// packet that was lost is sent again.
var redial = struct {
	backoff backoff.Config
	attempt time.Duration
}{backoff.Config{BaseDelay: 25 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 250 * time.Millisecond}, time.Second}

var clientKeepalive = keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout, PermitWithoutStream: true}

var serverKeepalive = keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}

// pingsAllowed leaves room for clients whose clocks run fast.
var pingsAllowed = keepalive.EnforcementPolicy{MinTime: pingAfter / 2, PermitWithoutStream: true}
