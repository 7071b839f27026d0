package sim

import (
	"errors"
	"sync"
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// linked is a scripted agent on a host of its own, linked to the leader.
func (c *Cluster) linked(name string) *RawAgent {
	r := c.StartRawAgent(name)
	c.must("link", r.Link(c.Leader()))
	return r
}

// result proposes a command that must be applied, and returns what it says.
func (c *Cluster) result(r *RawAgent, x *command.Command) *command.Result {
	p, err := r.Do(x)
	c.must("propose", err)
	if p.Outcome != linkpb.Proposed_OUTCOME_APPLIED {
		c.Fatal("%v: %v", x, p.Outcome)
	}
	return p.Result
}

// holding opens a session on a scripted agent and takes a lock with it.
func (c *Cluster) holding(r *RawAgent, session byte, ttl time.Duration, lock string) (attachment uint64) {
	attachment = c.result(r, r.Open(session, 1, ttl)).Attachment
	if c.result(r, AcquireFor(session, attachment, 2, lock)).GetStandings()[0].State != command.Standing_STATE_HELD {
		c.Fatal("%s is not free", lock)
	}
	return attachment
}

// attach opens a scripted application's session, which beats from then on.
func (c *Cluster) attach(m *Member, name string, ttl time.Duration) *RawApp {
	r := c.StartRaw(m, name)
	r.SendOpen(1, ttl)
	_, err := r.Await(5*time.Second, Attached(1))
	c.must("open", err)
	r.KeepBeating(ttl / 9)
	return r
}

// acquire takes a free lock with a scripted application.
func (c *Cluster) acquire(r *RawApp, seq uint64, lock string) {
	r.SendAcquire(seq, lock)
	_, err := r.Await(5*time.Second, Stands(seq, api.Standing_STATE_HELD))
	c.must("acquire "+lock, err)
}

// A list is made, and an acquire of a later sequence overtakes it: on neither
// link does the list take away what it was made too early to name.
func TestStoryListOvertaken(t *testing.T) {
	story(t, func(c *Cluster) {
		agent := c.linked("raw")
		defer agent.Close()
		at := c.result(agent, agent.Open(1, 1, 30*time.Second)).Attachment
		c.result(agent, AcquireFor(1, at, 5, "x"))
		token := c.token("x")
		c.result(agent, ReconcileFor(1, at, 5))
		if token == 0 || c.token("x") != token {
			c.Fatal("the agent's list took away what was granted after it was made")
		}

		app := c.attach(c.Forwarders[0], "app", 10*time.Second)
		c.acquire(app, 5, "y")
		token = c.token("y")
		app.SendReconcile(5)
		_, err := app.Await(5*time.Second, func(m *api.SessionResponse) bool { return m.GetReconciled() != nil })
		c.must("reconcile", err)
		time.Sleep(time.Second)
		if token == 0 || c.token("y") != token {
			c.Fatal("the application's list took away what was granted after it was made")
		}
	})
}

// An agent that begins anew links again and reconciles nothing: its heartbeats
// speak for no session of before, whatever numbers it uses.
func TestStoryAgentBeginsAnew(t *testing.T) {
	story(t, func(c *Cluster) {
		agent := c.linked("raw")
		defer agent.Close()
		c.holding(agent, 1, 2*time.Second, "x")
		agent.Beat()
		c.must("link", agent.Link(c.Leader()))
		agent.beat = 0
		for range 20 {
			agent.Beat()
			time.Sleep(200 * time.Millisecond)
		}
		if c.token("x") != 0 {
			c.Fatal("a session was renewed that the agent does not know")
		}
	})
}

// deafConn is a link whose reader does not notice that it was closed, as one
// that has a batch in hand does not.
type deafConn struct {
	batches chan []*link.Up
	over    chan struct{}
	once    sync.Once
}

func newDeafConn() *deafConn {
	return &deafConn{batches: make(chan []*link.Up, 1), over: make(chan struct{})}
}

func (d *deafConn) Send([]*link.Down) error { return nil }
func (d *deafConn) Close()                  {}
func (d *deafConn) end()                    { d.once.Do(func() { close(d.over) }) }
func (d *deafConn) Recv() ([]*link.Up, error) {
	select {
	case b := <-d.batches:
		return b, nil
	case <-d.over:
		return nil, errors.New("over")
	}
}

// Frames of a link that its agent has replaced are dropped unread: the new
// link's reconcile was made without them.
func TestStoryReplacedLink(t *testing.T) {
	story(t, func(c *Cluster) {
		leader := c.Leader().Agent()
		raw := c.StartRawAgent("raw")
		var links sync.WaitGroup
		defer links.Wait()
		serve := func(number uint64) *deafConn {
			conn := newDeafConn()
			hello := &linkpb.Hello{
				VersionMin: 1, VersionMax: 1, ClusterId: leader.ClusterID(), Agent: "raw", Incarnation: raw.Incarnation, Link: number,
			}
			welcome := leader.Admit(hello)
			links.Go(func() { leader.Link(hello, welcome, conn) })
			time.Sleep(10 * time.Millisecond)
			return conn
		}
		former := serve(1)
		defer former.end()
		defer serve(2).end()
		former.batches <- []*link.Up{{Frame: &linkpb.Up_Propose{Propose: &linkpb.Propose{Id: 1, Command: raw.Open(1, 1, time.Minute)}}}}
		time.Sleep(time.Second)
		if c.sessions() != 0 {
			c.Fatal("a frame of a replaced link was taken")
		}
	})
}

// A confirm takes long while D passes. The heartbeat that arrived meanwhile
// saves the session, and is answered.
func TestStorySlowConfirm(t *testing.T) {
	story(t, func(c *Cluster) {
		agent := c.linked("raw")
		defer agent.Close()
		c.holding(agent, 1, 2*time.Second, "x")
		agent.Beat()
		time.Sleep(time.Second)
		heal := c.slowConfirms()
		time.Sleep(1400 * time.Millisecond) // D passed 0.4 s ago; the sweep waits for its confirm
		saves := agent.Beat()
		time.Sleep(100 * time.Millisecond)
		heal()
		time.Sleep(time.Second)
		if c.sessions() != 1 || c.token("x") == 0 {
			c.Fatal("ended although a heartbeat came before the leader had proved that it leads")
		}
		if !agent.Answered(saves) {
			c.Fatal("the heartbeat was not answered")
		}
	})
}

// slowConfirms loses the leader's questions until it is undone.
func (c *Cluster) slowConfirms() (heal func()) {
	leader := c.Leader().Host.Name
	c.W.OnFrame(func(f *Frame) Action {
		if f.Kind == "ask/term" && f.From == leader {
			return Cut
		}
		return Deliver
	})
	return func() { c.W.OnFrame(nil) }
}

// From the moment a session's end is proposed no heartbeat renews it, and its
// agent hears so before any later heartbeat's answer.
func TestStoryEndingIsSaidFirst(t *testing.T) {
	story(t, func(c *Cluster) {
		agent := c.linked("raw")
		defer agent.Close()
		at := c.holding(agent, 1, 2*time.Second, "x")
		time.Sleep(1500 * time.Millisecond)
		c.Leader().Host.Disk.Stall(2 * time.Second)
		agent.Send(AcquireFor(1, at, 3, "y")) // the round that the end has to wait for
		time.Sleep(time.Second)
		late := agent.Beat()
		time.Sleep(3 * time.Second)
		ending, answered := -1, -1
		for i, f := range agent.Got() {
			if f.GetNotice().GetEnding() && ending < 0 {
				ending = i
			}
			if f.GetBeat().GetNumber() >= late && answered < 0 {
				answered = i
			}
		}
		if answered < 0 || ending < 0 || ending > answered {
			c.Fatal("told of the ending at %d, the late heartbeat answered at %d", ending, answered)
		}
		if c.sessions() != 0 {
			c.Fatal("not ended")
		}
	})
}
