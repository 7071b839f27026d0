package gossip

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/serf/serf"
)

func TestFiveFindEachOtherByOneSeed(t *testing.T) {
	t.Parallel()
	seed := run(t, testConfig("a", newIP()))
	all := []*runner{seed}
	for _, name := range []string{"b", "c", "d", "e"} {
		all = append(all, run(t, testConfig(name, newIP(), seed.GossipAddress())))
	}
	for _, r := range all {
		r.sees("a", "b", "c", "d", "e")
	}
	m := find(all[4].Members(), "b")
	if m.Address != all[1].cfg.PeerAddress || m.GossipAddress != all[1].GossipAddress() || m.Incarnation != all[1].cfg.Incarnation {
		t.Errorf("b is told as %+v", m)
	}
}

func TestSeedStartedLast(t *testing.T) {
	t.Parallel()
	c := testConfig("a", newIP())
	c.Port = defaultPort
	var all []*runner
	for _, name := range []string{"b", "c"} {
		all = append(all, run(t, testConfig(name, newIP(), c.Bind)))
	}
	for _, r := range append(all, run(t, c)) {
		r.sees("a", "b", "c")
	}
}

// The new start is told while Serf still holds the old one for alive: that takes
// three seconds here at least, since nobody probes so slowly.
func TestBackAtNewAddressBeforeTheOldOneFailed(t *testing.T) {
	t.Parallel()
	slow := func(r *runner) *runner {
		tune := r.tune
		r.refresh = time.Hour
		r.Pool.tune = func(c *serf.Config) { tune(c); c.MemberlistConfig.ProbeInterval = time.Hour }
		r.start()
		return r
	}
	seed := slow(newRunner(t, testConfig("a", newIP())))
	other := slow(newRunner(t, testConfig("b", newIP(), seed.GossipAddress())))
	old := newRunner(t, testConfig("c", newIP(), seed.GossipAddress()))
	old.Publish("old-server", "")
	slow(old)
	other.sees("a", "b", "c")
	old.crash()

	back := newRunner(t, testConfig("c", newIP(), seed.GossipAddress()))
	back.Publish("new-server", "")
	slow(back)
	for _, r := range []*runner{seed, other, back} {
		r.await("the new start of c", func(members []Member) bool {
			m := find(members, "c")
			return m.ServerID == "new-server" && m.Address == back.cfg.PeerAddress && m.Alive && m.Incarnation == back.cfg.Incarnation
		})
		if n := len(r.Members()); r != back && n != 3 {
			t.Errorf("%s has %d members", r.cfg.Name, n)
		}
	}
	if address, ok := other.Address("old-server"); !ok || address != old.cfg.PeerAddress {
		t.Errorf("the old server is at %q, %v", address, ok)
	}
}

func TestPublishIsSeenByOthers(t *testing.T) {
	t.Parallel()
	a := newRunner(t, testConfig("a", newIP()))
	a.Publish("server-a", "")
	if address, ok := a.Address("server-a"); !ok || address != a.cfg.PeerAddress {
		t.Errorf("before Run, the own server is at %q, %v", address, ok)
	}
	a.start()
	b := run(t, testConfig("b", newIP(), a.GossipAddress()))
	is := func(server, cluster string) func([]Member) bool {
		return func(members []Member) bool {
			m := find(members, "a")
			return m.ServerID == server && m.ClusterID == cluster
		}
	}
	b.await("what a published before Run", is("server-a", ""))
	changed := a.Changed()
	a.Publish("server-a", "cluster")
	select {
	case <-changed:
	default:
		t.Error("the own view does not change with Publish")
	}
	b.await("what a published last", is("server-a", "cluster"))
	if address, ok := b.Address("server-a"); !ok || address != a.cfg.PeerAddress {
		t.Errorf("server-a is at %q, %v", address, ok)
	}
	if _, ok := b.Address("stranger"); ok {
		t.Error("a stranger has an address")
	}
	a.Publish(strings.Repeat("x", idBytesMax+1), "")
	if m := find(a.Members(), "a"); m.ServerID != "server-a" {
		t.Errorf("what cannot be told is told: %+v", m)
	}
}

func TestFailedIsKeptAndLeftIsGone(t *testing.T) {
	t.Parallel()
	a := run(t, testConfig("a", newIP()))
	b := run(t, testConfig("b", newIP(), a.GossipAddress()))
	c := run(t, testConfig("c", newIP(), a.GossipAddress()))
	for _, r := range []*runner{a, b, c} {
		r.sees("a", "b", "c")
	}
	b.leave()
	a.await("b gone", func(members []Member) bool { return len(members) == 2 && members[1].Name == "c" })
	c.Publish("server-c", "")
	a.await("server-c", func(members []Member) bool { return find(members, "c").ServerID != "" })
	c.crash()
	a.await("c failed", func(members []Member) bool { return len(members) == 2 && !members[1].Alive })
	if _, ok := a.Address("server-c"); !ok {
		t.Error("the address of a failed server is forgotten")
	}
}

// All but the seeds' addresses are new after an outage; nobody remembers anything.
func TestEverybodyRestartsAtNewPorts(t *testing.T) {
	t.Parallel()
	seed := testConfig("a", newIP())
	seed.Port = defaultPort
	names := []string{"b", "c", "d"}
	ips := []string{newIP(), newIP(), newIP()}
	start := func() (all []*runner) {
		for i, name := range names {
			all = append(all, run(t, testConfig(name, ips[i], seed.Bind)))
		}
		seed.Incarnation = incarnations.Add(1)
		return append(all, run(t, seed))
	}
	first := start()
	for _, r := range first {
		r.sees("a", "b", "c", "d")
	}
	for _, r := range first {
		r.crash()
	}
	for _, r := range start() {
		r.sees("a", "b", "c", "d")
	}
}

// A seed that joins nobody is alone after its restart, until the others miss it.
func TestSeedThatJoinsNobodyIsFetchedBack(t *testing.T) {
	t.Parallel()
	seed := testConfig("a", newIP())
	seed.Port = defaultPort
	first := run(t, seed)
	b := run(t, testConfig("b", newIP(), seed.Bind))
	first.sees("a", "b")
	first.crash()
	seed.Incarnation = incarnations.Add(1)
	second := run(t, seed)
	second.sees("a", "b")
	b.await("the seed's new start", func(members []Member) bool {
		return find(members, "a").Incarnation == seed.Incarnation
	})
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	first := run(t, testConfig("a", newIP()))
	c := testConfig("b", first.cfg.Bind)
	c.Port = int(first.self.gossip.Port())
	second, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	err = second.Run(context.Background())
	if !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), "--gossip-port") || !strings.Contains(err.Error(), c.Bind) {
		t.Errorf("got %v", err)
	}
	if err := second.Run(context.Background()); !errors.Is(err, ErrRan) {
		t.Errorf("a second Run gave %v", err)
	}
	select {
	case <-second.Ready():
		t.Error("ready without a port")
	default:
	}
}

// A join target that takes connections and says nothing, as a stopped process
// does, holds up neither the others nor the end.
func TestTargetThatHangs(t *testing.T) {
	t.Parallel()
	hung, err := net.Listen("tcp", newIP()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	a := run(t, testConfig("a", newIP(), hung.Addr().String()))
	conn, err := hung.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	start := time.Now()
	a.leave()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("leaving took %s", took)
	}
}

func TestNameTwiceIsWarnedOf(t *testing.T) {
	t.Parallel()
	var log journal
	c := testConfig("a", newIP())
	c.Log = log.logger()
	a := newRunner(t, c)
	a.start()
	one := newRunner(t, testConfig("twin", newIP(), a.GossipAddress()))
	one.Publish("one", "")
	one.start()
	other := newRunner(t, testConfig("twin", newIP(), a.GossipAddress()))
	other.Publish("other", "")
	other.start()
	eventually(t, "a warning of the name", func() bool {
		return log.count("level=WARN", "two agents have one name", "agent=twin", one.cfg.PeerAddress, other.cfg.PeerAddress) == 1
	})
	a.sees("a", "twin")
	for id, r := range map[string]*runner{"one": one, "other": other} {
		if address, ok := a.Address(id); !ok || address != r.cfg.PeerAddress {
			t.Errorf("server %s is at %q, %v", id, address, ok)
		}
		eventually(t, "both twins seen by "+id, func() bool {
			all := r.All()
			return len(all) == 3 && all[1].Name == "twin" && all[1].ServerID == id && all[2].Name == "twin"
		})
	}
}

func TestGarbageIsLeftOut(t *testing.T) {
	t.Parallel()
	var log journal
	c := testConfig("a", newIP())
	c.Log = log.logger()
	a := run(t, c)
	odd := newRunner(t, testConfig("odd", newIP(), a.GossipAddress()))
	tune := odd.tune
	odd.Pool.tune = func(c *serf.Config) { tune(c); c.Tags = map[string]string{tagName: "a\nb"} }
	odd.start()
	good := run(t, testConfig("good", newIP(), a.GossipAddress()))
	a.sees("a", "good")
	good.sees("a", "good")
	eventually(t, "a word about the odd one", func() bool { return log.count("level=WARN", "not understood", "odd#") == 1 })
}

// Everything at its longest fits into what memberlist has for a node.
func TestLongestCardFits(t *testing.T) {
	t.Parallel()
	c := testConfig(strings.Repeat("n", nameBytesMax), newIP())
	c.Incarnation = 1<<64 - 1
	c.PeerAddress = strings.Repeat("h", addressBytesMax-6) + ":65535"
	c.Forwarder = true
	long := newRunner(t, c)
	long.Publish(strings.Repeat("s", idBytesMax), strings.Repeat("c", idBytesMax))
	long.start()
	a := run(t, testConfig("a", newIP(), long.GossipAddress()))
	a.sees("a", c.Name)
	m := find(a.Members(), c.Name)
	if own := find(long.Members(), c.Name); m != own {
		t.Errorf("told as %+v, is %+v", m, own)
	}
}

func TestSecretKeyKeepsOthersOut(t *testing.T) {
	t.Parallel()
	keyed := func(name string, key byte, join ...string) *runner {
		c := testConfig(name, newIP(), join...)
		c.SecretKey = []byte(strings.Repeat(string(key), 32))
		return run(t, c)
	}
	a := keyed("a", 'x')
	keyed("evil", 'y', a.GossipAddress())
	plain := run(t, testConfig("plain", newIP(), a.GossipAddress()))
	b := keyed("b", 'x', a.GossipAddress())
	a.sees("a", "b")
	b.sees("a", "b")
	plain.sees("plain")
}
