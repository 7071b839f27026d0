package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
)

// faultNames are the faults a schedule draws from; some are named twice to
// come twice as often.
var faultNames = []string{
	"crash leader", "crash leader", "crash voter", "crash forwarder", "crash two voters", "restart all", "crash host", "power off",
	"partition", "partition", "isolate leader", "one-way cut", "mute", "heartbeats only", "hold messages", "loss", "stragglers", "slow net", "heal",
	"pause leader", "pause host", "stall disk", "failing disk", "full disk", "wipe forwarder",
	"kill app", "kill app", "kill all apps of a host", "stop app", "stop app", "break stream", "break stream", "break all streams",
	"clock rate", "transfer", "snapshot-lag", "hidden members",
	"revoke", "revoke", "revoke now", "aim", "aim", "aim",
}

// harmless faults take nothing from anybody that was not meant: who was spared
// by them must notice nothing.
var harmless = map[string]bool{
	"kill app": true, "kill all apps of a host": true, "stop app": true, "break stream": true, "break all streams": true,
	"clock rate": true, "hidden members": true, "revoke": true, "revoke now": true, "heal": true,
}

// fault injects one fault. What lasts ends by itself after a while.
func (s *Schedule) fault(name string) {
	s.Faults[name]++
	s.c.W.Logf("fault: %s", name)
	if !harmless[name] {
		s.c.Checks.disturb(0)
	}
	switch {
	case s.crashFault(name), s.netFault(name), s.hostFault(name), s.appFault(name), s.otherFault(name):
	default:
		panic("no fault is called " + name)
	}
}

// aftermath keeps the calm from being judged while an ended fault still works.
func (s *Schedule) aftermath(d time.Duration) {
	s.c.Checks.disturb(1)
	s.lasts.Go(func() {
		time.Sleep(d)
		s.c.Checks.disturb(-1)
	})
}

// lasting undoes a fault after a while.
func (s *Schedule) lasting(undo func()) {
	d := 500*time.Millisecond + time.Duration(s.rng.Int64N(int64(6*time.Second)))
	s.c.Checks.disturb(1)
	s.lasts.Go(func() {
		select {
		case <-time.After(d):
		case <-s.peace.Done():
		}
		undo()
		s.c.Checks.disturb(-1)
	})
}

// heal ends every fault that lasts.
func (s *Schedule) heal() {
	s.aim.Store(nil)
	s.calm()
	s.lasts.Wait()
	s.c.W.Net.Heal()
	for _, m := range s.c.Members() {
		m.Host.Resume()
		if !m.Host.Up() {
			m.Host.Restart()
		}
	}
	s.c.Checks.disturb(0)
}

func one[T any](rng *rand.Rand, of []T) T { return of[rng.IntN(len(of))] }

func (s *Schedule) voter() *Member  { return one(s.rng, s.c.Voters) }
func (s *Schedule) member() *Member { return one(s.rng, s.c.Members()) }

// leader is who leads, or any voter where nobody does.
func (s *Schedule) leader() *Member {
	if l := s.c.Leader(); l != nil {
		return l
	}
	return s.voter()
}

func (s *Schedule) crashFault(name string) bool {
	switch name {
	case "crash leader":
		s.crash(s.leader())
	case "crash voter":
		s.crash(s.voter())
	case "crash forwarder":
		s.crash(one(s.rng, s.c.Forwarders))
	case "crash two voters":
		s.crash(s.leader())
		s.crash(s.voter())
	case "restart all":
		for _, m := range s.c.Members() {
			s.crash(m)
		}
	case "crash host": // the agent and all who use it
		m := s.member()
		s.killOn(m)
		s.crash(m)
	case "power off":
		m := s.member()
		m.Host.PowerOff()
		s.killOn(m)
		s.back(m)
	case "snapshot-lag":
		// A voter away for long enough comes back to a log that was cut.
		m := s.voter()
		m.Host.Crash()
		m.Host.RestartAfter(6 * time.Second)
	case "wipe forwarder":
		m := one(s.rng, s.c.Forwarders)
		m.Host.Disk.Wipe()
		s.back(m)
	default:
		return false
	}
	return true
}

func (s *Schedule) crash(m *Member) {
	if m.Host.Up() {
		m.Host.Crash()
		s.back(m)
	}
}

func (s *Schedule) back(m *Member) {
	m.Host.RestartAfter(100*time.Millisecond + time.Duration(s.rng.Int64N(int64(4*time.Second))))
}

func (s *Schedule) netFault(name string) bool {
	net := s.c.W.Net
	switch name {
	case "partition":
		net.Partition(s.split())
		s.lasting(net.Heal)
	case "isolate leader":
		net.Isolate(s.leader().Host)
		s.lasting(net.Heal)
	case "one-way cut":
		a, b := s.member(), s.member()
		if a != b {
			net.Cut(a.Host, b.Host)
			s.lasting(net.Heal)
		}
	case "mute":
		net.Mute(s.member().Host)
		s.lasting(net.Heal)
	case "heartbeats only":
		net.HeartbeatsOnly(s.leader().Host)
		s.lasting(net.Heal)
	case "hold messages":
		net.HoldTo(s.member().Host, s.c.W.Now()+time.Duration(s.rng.Int64N(int64(3*time.Second))))
		s.lasting(func() {})
	case "loss":
		net.SetLoss(0.05)
		s.lasting(func() {
			net.SetLoss(0)
			s.aftermath(net.BreakAfter) // a link that lost a message hangs for so long
		})
	case "stragglers":
		net.SetStragglers(0.1, time.Second)
		s.lasting(func() { net.SetStragglers(0, 0) })
	case "slow net":
		net.SetDelay(20*time.Millisecond, 120*time.Millisecond)
		s.lasting(func() { net.SetDelay(DelayLeast, DelayMost) })
	case "heal":
		net.Heal()
	default:
		return false
	}
	return true
}

// split halves the hosts at random.
func (s *Schedule) split() (left []*Host) {
	for _, m := range s.c.Members() {
		if s.rng.IntN(2) == 0 {
			left = append(left, m.Host)
		}
	}
	return left
}

func (s *Schedule) hostFault(name string) bool {
	switch name {
	case "pause leader":
		h := s.leader().Host
		h.Pause()
		s.lasting(h.Resume)
	case "pause host":
		h := s.member().Host
		h.Pause()
		s.lasting(h.Resume)
	case "stall disk":
		s.member().Host.Disk.Stall(time.Duration(s.rng.Int64N(int64(3 * time.Second))))
		s.lasting(func() {})
	case "failing disk":
		d := s.member().Host.Disk
		d.FailWrites(0.05)
		s.lasting(func() { d.FailWrites(0) })
	case "full disk":
		d := s.member().Host.Disk
		d.Full(true)
		s.lasting(func() { d.Full(false) })
	case "clock rate":
		s.skew(s.member())
	default:
		return false
	}
	return true
}

// skew gives a host a clock rate within what the promises hold for.
func (s *Schedule) skew(m *Member) { m.Host.SetRate(0.99 + 0.02*s.rng.Float64()) }

func (s *Schedule) appFault(name string) bool {
	apps := s.alive(nil)
	switch name {
	case "kill app":
		if len(apps) > 0 {
			one(s.rng, apps).Kill()
		}
	case "kill all apps of a host":
		s.killOn(s.member())
	case "stop app":
		if len(apps) > 0 {
			a := one(s.rng, apps)
			if !a.Stop() {
				break
			}
			began := s.c.W.Now()
			d := time.Duration(s.rng.Int64N(int64(7 * time.Second)))
			s.lasts.Go(func() {
				select {
				case <-time.After(d):
				case <-s.peace.Done():
				}
				s.c.Checks.continued(a, s.c.W.Now()-began)
				a.Continue()
			})
		}
	case "break stream":
		if len(apps) > 0 {
			one(s.rng, apps).Break()
		}
	case "break all streams":
		for _, a := range apps {
			a.Break()
		}
	default:
		return false
	}
	return true
}

// alive are the living applications, of one host or of all.
func (s *Schedule) alive(of *Member) (out []*App) {
	for _, a := range s.c.Apps() {
		if a.Alive() && (of == nil || a.m == of) {
			out = append(out, a)
		}
	}
	return out
}

func (s *Schedule) killOn(m *Member) {
	for _, a := range s.alive(m) {
		a.Kill()
	}
}

func (s *Schedule) otherFault(name string) bool {
	switch name {
	case "transfer":
		s.transfer(s.leader())
	case "hidden members":
		viewer := s.member().Host
		for _, h := range s.split() {
			s.c.Pool.Hide(viewer, h, true)
			s.lasts.Go(func() {
				select {
				case <-time.After(5 * time.Second):
				case <-s.peace.Done():
				}
				s.c.Pool.Hide(viewer, h, false)
			})
		}
	case "revoke":
		s.revoke(false)
	case "revoke now":
		s.revoke(true)
	case "aim":
		s.aim.Store(&aim{
			kind:   one(s.rng, aims),
			action: one(s.rng, []Action{Cut, RestartFrom, RestartFromSent, RestartTo}),
			left:   1 + s.rng.IntN(8),
		})
	default:
		return false
	}
	return true
}

// transfer moves leadership on, in the background: a hung one takes its time.
func (s *Schedule) transfer(m *Member) {
	a := m.Agent()
	if a == nil || a.Node() == nil {
		return
	}
	node := a.Node()
	s.lasts.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = node.Transfer(ctx, "", "")
	})
}

// revoke takes some lock from whoever has it now, by any agent's word.
func (s *Schedule) revoke(now bool) {
	l, via := s.c.Leader(), s.member()
	if l == nil || via.Agent() == nil || !via.Host.Up() {
		return
	}
	var info fsm.LockInfo
	l.Inspect(func(st *fsm.State) { info, _ = st.View().Get(s.lockName(s.rng)) })
	token := info.Holder.GetToken()
	if token == 0 {
		return
	}
	s.c.Checks.revocation(token, now)
	sessions := via.Agent().Sessions()
	s.lasts.Go(func() {
		ctx, cancel := context.WithTimeout(s.stop, 5*time.Second)
		defer cancel()
		_, _ = sessions.Propose(ctx, &command.Command{Kind: &command.Command_Revoke{Revoke: &command.Revoke{
			Lock: info.Lock, Token: token, Now: now, By: "schedule",
		}}})
	})
}

// aim is a fault that waits for its frame: the so manyth of a kind.
type aim struct {
	kind   string // how it begins
	action Action
	left   int // guarded by World.mu
}

// aims are where a crash or a cut hurts: between what was said and what was
// heard. "app" is every stream of an application.
var aims = []string{
	"link-up/propose/open", "link-up/propose/resume", "link-up/propose/acquire", "link-up/propose/release",
	"link-up/propose/reconcile", "link-up/propose/end", "link-up/propose/cancel", "link-up/propose/plain", "link-up/propose",
	"link-up/hello", "link-up/beat", "link-up/query", "link-down/welcome", "link-down/proposed", "link-down/notice",
	"link-down/beat", "link-down/query", "raft/AppendEntries", "raft/AppendEntries-reply", "raft/RequestVote",
	"raft/RequestVote-reply", "raft/InstallSnapshot", "ask/term", "ask/term-reply", "app",
}

// frame sees every message at its sending.
func (s *Schedule) frame(f *Frame) Action {
	if f.Kind == "link-up/hello" {
		s.hellos.Add(1)
	}
	a := s.aim.Load()
	if a == nil || !strings.HasPrefix(f.Kind, a.kind) {
		return Deliver
	}
	s.c.W.mu.Lock()
	a.left--
	fire := a.left == 0
	s.c.W.mu.Unlock()
	if !fire {
		return Deliver
	}
	s.aim.CompareAndSwap(a, nil)
	s.c.Checks.count(fmt.Sprintf("aimed %v", a.action))
	s.c.Checks.disturb(0)
	return a.action
}
