package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/raftlock/raftlock/agent/bootstrap"
	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/internal/mutant"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// Routing: how long a question about the leader and a dial may take.
const (
	askTimeout  = 500 * time.Millisecond
	dialTimeout = time.Second
	// Between tries the wait doubles from the least to the most, and lies
	// between half of that and one and a half. Every agent of the gossip pool
	// adds its share to the most, so that however many look for a leader, the
	// voters are asked at a bounded rate.
	retryLeast = 50 * time.Millisecond
	retryMost  = 250 * time.Millisecond
	retryShare = time.Millisecond
	// How often at least an agent looks whether its heartbeats are answered:
	// a session with a shorter TTL may have come meanwhile.
	staleCheckMost = 500 * time.Millisecond
	// An agent whose leader says that it leads, and answers no heartbeat, links
	// to it anew after two thirds of a TTL: the connection may hang. Or it is
	// slow, and a new link throws away the answers on their way: each time it
	// waits a third longer, up to so many.
	relinkMost = 10
	// Asked at once when nobody is known to be a voter.
	askedMax = 64
)

// sighting is a leader that was found: where, and of which term. The zero value
// is none.
type sighting struct {
	address string
	term    uint64
}

// findings are what a round of questions found.
type findings struct {
	leader sighting
	// answered counts the members of this cluster that answered, once each;
	// voters is how many voters they told of, 0 where none did; asked counts
	// those that were asked.
	answered, voters, asked int
}

// route keeps one link to the leader: finds it, links, hands frames over until
// the link breaks or goes stale, and begins again.
func (a *Agent) route(ctx context.Context) error {
	r := router{a: a}
	for tries := 0; ctx.Err() == nil; tries++ {
		to := r.next
		r.next = sighting{}
		var f *findings
		if to.address == "" && a.ClusterID() != "" {
			f = r.look(ctx)
			to = f.leader
		}
		if to.address != "" && r.linked(ctx, to) {
			tries = 0
		} else if f != nil {
			r.judge(f)
		}
		if r.next.address != "" && tries == 0 {
			continue // found while the former link was there: no need to wait
		}
		if !a.rest(ctx, a.retryDelay(tries)) {
			break
		}
	}
	return nil
}

// retryDelay draws the wait after so many tries in vain.
func (a *Agent) retryDelay(tries int) time.Duration {
	most := retryMost + time.Duration(len(a.cfg.Gossip.Members()))*retryShare
	d := min(retryLeast<<min(tries, 10), most)
	return d/2 + rand.N(d)
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// rest is sleep for the router, which answers Progress then: it comes back here
// soon, whether or not there is a leader.
func (a *Agent) rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case turned := <-a.rests:
			close(turned)
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// findLeader asks the others who leads, and finds who says so of itself with
// the highest term. Of two the one with the lower term does not know yet that
// it was deposed; so it waits until a majority has answered, of as many voters
// as are known of: 0 is none. A server that others take for the leader is asked
// too, and no more: until it says so itself it takes no links.
func (a *Agent) findLeader(ctx context.Context, voters int) *findings {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	type answer struct {
		at string
		*linkpb.Answer
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	answers := make(chan answer, askedMax+1)
	asked := make(map[string]bool)
	ask := func(to string) {
		if to == "" || asked[to] || len(asked) > askedMax {
			return
		}
		asked[to] = true
		if to == a.cfg.Address {
			answers <- answer{to, &linkpb.Answer{ServerId: a.ServerID(), Answer: &linkpb.Answer_Term{Term: a.term()}}}
			return
		}
		all.Go(func() { answers <- answer{to, a.askWhoLeads(ctx, to)} })
	}
	for _, to := range a.voters() {
		ask(to)
	}
	f := &findings{asked: len(asked)}
	if voters == 0 {
		voters = f.asked
	}
	var told sighting
	said := make(map[string]bool) // by server: one may answer at two addresses
	for heard := 0; heard < len(asked); heard++ {
		x := <-answers
		term := x.GetTerm()
		if !term.GetMember() || said[x.ServerId] {
			continue
		}
		said[x.ServerId] = true
		a.noteMember(x.ServerId)
		f.answered, f.voters = len(said), max(f.voters, int(term.Voters))
		switch {
		case term.Leading && term.Term >= f.leader.term:
			f.leader = sighting{x.at, term.Term}
		case term.Term > told.term:
			told = sighting{term.LeaderAddress, term.Term}
			ask(told.address)
		}
		if f.leader.address != "" && f.answered >= voters/2+1 {
			break
		}
	}
	return f
}

// askWhoLeads asks one; nil when it does not answer, or is of another cluster.
func (a *Agent) askWhoLeads(ctx context.Context, to string) *linkpb.Answer {
	r, err := a.cfg.Network.Ask(ctx, to, &linkpb.Question{
		From: a.cfg.Name, Question: &linkpb.Question_Term{Term: &linkpb.Term{}},
	})
	if err != nil || r.ClusterId != a.ClusterID() {
		return nil
	}
	return r
}

// voters are the addresses worth asking: the Raft members where this agent is
// one, where gossip says that they are now and where they were, and whoever
// gossip says may be one.
func (a *Agent) voters() []string {
	seen := make(map[string]bool)
	var out []string
	add := func(address string) {
		if address != "" && !seen[address] && len(out) < askedMax {
			seen[address] = true
			out = append(out, address)
		}
	}
	if node := a.Node(); node != nil {
		add(a.cfg.Address)
		if list, err := node.Servers(); err == nil {
			for _, s := range list {
				if s.ID == a.cfg.Consensus.ServerID {
					continue // asked already, wherever it was
				}
				for _, address := range a.addresses(s.ID, s.Address) {
					add(address)
				}
			}
		}
	}
	for _, m := range a.likely(a.cfg.Gossip.Members()) {
		add(m.Address)
	}
	return out
}

// likely are the members in view that may vote, those that said before that they
// are in the Raft configuration first. Of more than can be asked at once the
// others come in random order: names tell nothing of who votes.
func (a *Agent) likely(members []bootstrap.Member) []bootstrap.Member {
	members = slices.DeleteFunc(slices.Clone(members), func(m bootstrap.Member) bool { return m.Forwarder })
	if len(members) <= askedMax {
		return members
	}
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortStableFunc(members, func(x, y bootstrap.Member) int {
		switch first, second := a.answered[x.ServerID], a.answered[y.ServerID]; {
		case first == second:
			return 0
		case first:
			return -1
		}
		return 1
	})
	return members
}

func (a *Agent) noteMember(serverID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answered == nil || len(a.answered) >= askedMax {
		a.answered = make(map[string]bool)
	}
	a.answered[serverID] = true
}

// addresses are where a Raft server may be: where gossip says that it is now,
// and where Raft's configuration has it. Who answers there is for the answer to
// tell.
func (a *Agent) addresses(server consensus.ServerID, configured string) []string {
	hint, ok := a.cfg.Gossip.Address(string(server))
	if !ok || hint == configured || hint == "" || mutant.On("agent-moved") {
		return []string{configured}
	}
	return []string{hint, configured}
}

// router is what the one goroutine that routes remembers from link to link.
type router struct {
	a *Agent
	// next is a leader found while the former link was there, or hinted at by
	// a refusal.
	next sighting
	// term is that of the last link; again, how many links of that term have
	// ended without an answered heartbeat.
	term  uint64
	again int
	// quorumOf is how many voters there are, by the last that told; 0: nobody
	// has yet. silent counts the rounds since a majority of them answered.
	quorumOf int
	silent   int
}

// look asks who leads, and remembers how many voters there are: gossip may have
// dropped the dead ones from view.
func (r *router) look(ctx context.Context) *findings {
	if node := r.a.Node(); node != nil {
		r.quorumOf = max(r.quorumOf, votersOf(node))
	}
	f := r.a.findLeader(ctx, r.quorumOf)
	if f.voters != 0 && !mutant.On("agent-quorum-told") {
		r.quorumOf = f.voters
	}
	return f
}

// silentRounds is for how many rounds in succession too few must have answered
// before this agent says that there is no quorum: answers may be late.
const silentRounds = 2

// judge says why no leader is reached, after a round that found none or while
// one answers no heartbeats.
func (r *router) judge(f *findings) {
	voters := r.quorumOf
	if voters == 0 {
		voters = f.asked // just started: those in view
	}
	if f.answered >= voters/2+1 {
		r.silent = 0
	} else {
		r.silent++
	}
	reach := api.Reason_REASON_NO_LEADER
	if r.silent >= silentRounds {
		reach = api.Reason_REASON_NO_QUORUM
	}
	r.a.sessions.SetReach(reach)
}

// linked runs one link, and reports whether there was one.
func (r *router) linked(ctx context.Context, to sighting) bool {
	a := r.a
	a.mu.Lock()
	a.linkNo++
	hello := &linkpb.Hello{
		VersionMin: link.VersionMin, VersionMax: link.VersionMax, ClusterId: a.decision.ClusterID,
		Agent: a.cfg.Name, Incarnation: a.cfg.Incarnation, Link: a.linkNo,
	}
	a.mu.Unlock()
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, welcome, err := a.cfg.Network.Dial(dial, to.address, hello)
	cancel()
	if err != nil {
		if hint := welcome.GetLeaderAddress(); errors.Is(err, link.ErrRefused) && hint != to.address {
			r.next = sighting{address: hint}
		}
		a.cfg.Log.Debug("link", "to", to.address, "error", err)
		return false
	}
	a.cfg.Log.Info("linked", "leader", welcome.ServerId, "term", welcome.Term)
	if welcome.Term != r.term {
		r.term, r.again = welcome.Term, 0
	}
	up := &outbox[*link.Up]{conn: conn, ready: make(chan struct{}, 1), done: make(chan struct{})}
	var both sync.WaitGroup
	both.Go(up.write)
	live, end := context.WithCancel(ctx)
	defer end()
	both.Go(func() { r.watch(live, up) })
	a.setLink(leaderLink{serverID: welcome.ServerId, address: to.address, term: welcome.Term})
	defer a.setLink(leaderLink{})
	far := &uplink{outbox: up, leader: welcome.ServerId}
	if welcome.ServerId != a.ServerID() {
		far.hops = 1
	}
	a.sessions.LinkUp(far)
	for {
		frames, err := conn.Recv()
		if err != nil {
			break
		}
		a.sessions.Receive(frames)
	}
	a.sessions.LinkDown()
	end()
	up.close()
	both.Wait()
	return true
}

// watch closes the link when ctx ends, and when heartbeats go unanswered and
// there is a leader to link to. Without one the link stays: a leader that was
// cut off may be back before another is elected.
func (r *router) watch(ctx context.Context, up *outbox[*link.Up]) {
	defer up.close()
	sessions := r.a.sessions
	tries, patience := 0, min(sessions.Patience(), staleCheckMost)
	for r.a.rest(ctx, patience) {
		if !sessions.Stale() {
			if sessions.Heard() {
				r.again, r.silent = 0, 0
			}
			tries, patience = 0, min(sessions.Patience(), staleCheckMost)
			continue
		}
		f := r.look(ctx)
		if ctx.Err() != nil {
			return
		}
		found := f.leader
		if sessions.Stale() {
			r.judge(f)
		}
		if found.term > r.term || found.term == r.term && sessions.Thirds() >= 2+r.again {
			if found.term == r.term {
				r.again = min(r.again+1, relinkMost)
			}
			r.a.cfg.Log.Info("heartbeats unanswered", "term", r.term, "next", found.term)
			r.next = found
			return
		}
		tries++
		patience = r.a.retryDelay(tries)
	}
}
