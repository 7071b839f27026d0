package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/raftlock/raftlock/agent/session"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/uds"
)

// kernel is what this host's kernel tells, in the agent's terms.
type kernel struct {
	*uds.Kernel
	clock func() time.Duration
}

func newKernel() (*kernel, error) {
	clock, err := uds.Clock()
	if err != nil {
		return nil, err
	}
	return &kernel{Kernel: uds.NewKernel(), clock: clock}, nil
}

// peer is the process behind a call on a socket.
func (k *kernel) peer(ctx context.Context) (session.Peer, bool) {
	p, ok := uds.PeerFrom(ctx)
	if !ok {
		return nil, false
	}
	exited, stop := p.Watch()
	return &process{peer: p, exited: exited, stop: sync.OnceFunc(stop)}, true
}

// identity is whose call it is: the user's whose process connected, or that of
// everybody who comes over TCP.
func identity(ctx context.Context) (string, bool) {
	if p, ok := uds.PeerFrom(ctx); ok {
		return p.Identity(), true
	}
	return httpIdentity, ctx.Value(overHTTP{}) != nil
}

// gone reports that a process in the log surely is no more.
func (k *kernel) gone(p *command.Process) bool {
	return k.Gone(uds.Recorded{
		PID: p.Pid, StartTicks: p.StartTicks, BootID: p.BootId,
		PIDNamespace: p.PidNamespace, InitialNamespace: p.InitialNamespace,
		PidfdInode: p.PidfdInode,
	})
}

// process implements session.Peer.
type process struct {
	peer   *uds.Peer
	exited <-chan struct{}
	stop   func()
}

func (p *process) Process() *command.Process {
	r := p.peer.Recorded()
	if r.PID == 0 && r.PidfdInode == 0 {
		return nil // nothing by which it could be known again
	}
	return &command.Process{
		Pid: r.PID, StartTicks: r.StartTicks, BootId: r.BootID,
		PidNamespace: r.PIDNamespace, InitialNamespace: r.InitialNamespace,
		PidfdInode: r.PidfdInode,
	}
}

func (p *process) Identity() string { return p.peer.Identity() }

func (p *process) Same(q session.Peer) bool {
	other, ok := q.(*process)
	return ok && p.peer.Same(other.peer)
}

func (p *process) Exited() <-chan struct{} { return p.exited }

// Release ends the watch.
func (p *process) Release() { p.stop() }
