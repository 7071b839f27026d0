package fsm

import (
	"bytes"
	"strings"

	"github.com/raftlock/raftlock/fsm/command"
)

// useKind says what one sequence of a session was used for.
type useKind uint8

const (
	// useWait: an acquire in its lock's queue.
	useWait useKind = iota + 1
	// useHold: an acquire that was granted and holds.
	useHold
	// useGone: an acquire that is over, not yet acknowledged.
	useGone
	// useAnswered: the cached answer of another kind, not yet acknowledged.
	useAnswered
	// useAcked: over and acknowledged, above the mark.
	useAcked
)

// use is one sequence that a session used. A use is never changed once it is
// in a tree: views share it. Waits and holds are called claims.
type use struct {
	session ID
	seq     uint64
	lock    string
	// token of a hold; 0 otherwise.
	token uint64
	// order in which a wait was enqueued, cluster-wide; 0 otherwise.
	order    uint64
	hash     uint64
	more     *more
	priority int32
	kind     useKind
	gone     uint8
	// acked: a claim whose sequence is acknowledged singly above the mark.
	acked bool
	// revoked: a hold marked for giving up.
	revoked bool
	// claimed: a plain hold that no cancel of a request gives up any more.
	claimed bool
}

// more holds what few uses have.
type more struct {
	metadata []pair
	// requests of a plain claim: the one it waits for, or those that a hold was
	// granted to and that have not been cancelled. Sorted.
	requests []string
	answer   answer
}

type pair struct{ key, value string }

// answer is a cached result. Details are not kept: they follow from the code.
// Nor is the TTL: an answer of once tells the one in force, since deadlines are
// reckoned with what answers tell, and a former, longer one would outlast D.
type answer struct {
	kind        answerKind
	code        command.Code
	attachment  uint64
	incarnation uint64
}

// answerKind tells the kinds of request whose answers are cached.
type answerKind uint8

const (
	answerOpen answerKind = iota + 1
	answerResume
	answerTTL
	answerRelease
)

func (u *use) claim() bool { return u.kind == useWait || u.kind == useHold }

func (u *use) metadata() []pair {
	if u.more == nil {
		return nil
	}
	return u.more.metadata
}

func (u *use) requests() []string {
	if u.more == nil {
		return nil
	}
	return u.more.requests
}

// withRequests returns a changeable copy of u that names requests.
func (u *use) withRequests(requests []string) *use {
	c := *u
	c.more = newMore(u.metadata(), requests)
	return &c
}

func newMore(metadata []pair, requests []string) *more {
	if len(metadata) == 0 && len(requests) == 0 {
		return nil
	}
	return &more{metadata: metadata, requests: requests}
}

// useLess orders uses by session, then sequence.
func useLess(a, b *use) bool {
	if c := bytes.Compare(a.session[:], b.session[:]); c != 0 {
		return c < 0
	}
	return a.seq < b.seq
}

// queueLess orders waits by lock, then as they are granted (I4).
func queueLess(a, b *use) bool {
	if c := strings.Compare(a.lock, b.lock); c != 0 {
		return c < 0
	}
	if a.priority != b.priority {
		return a.priority > b.priority
	}
	return a.order < b.order
}

func pairsOf(in []*command.Pair) []pair {
	if len(in) == 0 {
		return nil
	}
	out := make([]pair, len(in))
	for i, p := range in {
		out[i] = pair{key: p.GetKey(), value: p.GetValue()}
	}
	return out
}

func pairsTo(in []pair) []*command.Pair {
	if len(in) == 0 {
		return nil
	}
	out := make([]*command.Pair, len(in))
	for i, p := range in {
		out[i] = &command.Pair{Key: p.key, Value: p.value}
	}
	return out
}
