package gossip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// A story of one joiner on virtual time.
type story struct {
	pool   *Pool
	log    *journal
	mu     sync.Mutex
	names  map[string][]netip.Addr
	answer map[string]bool
	dialed []string
	asked  int
}

func (s *story) dial(address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialed = append(s.dialed, address)
	if !s.answer[address] {
		return errors.New("refused")
	}
	return nil
}

func (s *story) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if len(s.names[host]) == 0 {
		return nil, errors.New("no such host")
	}
	return slices.Clone(s.names[host]), nil
}

// set changes what answers and what names mean.
func (s *story) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// dials are those since the last call.
func (s *story) dials() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	made := s.dialed
	s.dialed = nil
	return made
}

// see tells the pool that these live, beside itself.
func (s *story) see(addresses ...string) {
	var members []serf.Member
	for _, a := range addresses {
		ip := at(a)
		c := card{name: "m" + strconv.Itoa(int(ip.Addr().As4()[3])), incarnation: 1, address: "10.0.0.1:7950"}
		members = append(members, serf.Member{Name: c.node(), Tags: c.tags(), Status: serf.StatusAlive, Addr: ip.Addr().AsSlice(), Port: ip.Port()})
	}
	s.pool.see(members, newStrangers(s.pool.log))
}

// joins runs a joiner with default pauses in a bubble.
func joins(t *testing.T, targets []string, tell func(*testing.T, *story)) {
	synctest.Test(t, func(t *testing.T) {
		s := &story{log: &journal{}, names: make(map[string][]netip.Addr), answer: make(map[string]bool)}
		c := DefaultConfig()
		c.Name, c.Incarnation, c.Bind, c.PeerAddress, c.Join, c.Log = "a", 42, "10.0.0.1", "10.0.0.1:7950", targets, s.log.logger()
		var err error
		if s.pool, err = New(c); err != nil {
			t.Fatal(err)
		}
		s.pool.lookup = s.lookup
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		defer work.Wait()
		defer cancel()
		work.Go(func() { newJoiner(s.pool, s.dial).run(ctx) })
		tell(t, s)
	})
}

func TestJoiningAloneIsQuickAndForEver(t *testing.T) {
	joins(t, []string{"10.0.0.2"}, func(t *testing.T, s *story) {
		time.Sleep(10 * time.Minute)
		n := len(s.dials())
		if n < 150 || n > 290 {
			t.Errorf("%d tries in ten minutes alone", n)
		}
		if warnings := s.log.count("level=WARN", "no join target answers"); warnings < 8 || warnings > 10 {
			t.Errorf("%d warnings in ten minutes", warnings)
		}
		s.set(func() { s.answer["10.0.0.2:7946"] = true })
		time.Sleep(4 * time.Second)
		if len(s.dials()) == 0 {
			t.Error("not tried within the pause of one that is alone")
		}
	})
}

func TestTargetNotInViewIsTriedWithPatience(t *testing.T) {
	joins(t, []string{"10.0.0.2", "10.0.0.3"}, func(t *testing.T, s *story) {
		s.see("10.0.0.2:7946")
		time.Sleep(5 * time.Minute)
		s.dials()
		time.Sleep(30 * time.Minute)
		made := s.dials()
		if len(made) < 45 || len(made) > 85 || slices.Contains(made, "10.0.0.2:7946") {
			t.Errorf("%d tries in half an hour: %v", len(made), made)
		}
	})
}

func TestNamesAreResolvedAnew(t *testing.T) {
	joins(t, []string{"seed.example:17"}, func(t *testing.T, s *story) {
		time.Sleep(time.Minute)
		if made := s.dials(); len(made) != 0 {
			t.Errorf("a name without address led to %v", made)
		}
		s.set(func() { s.names["seed.example"] = []netip.Addr{netip.MustParseAddr("10.0.0.2")} })
		time.Sleep(4 * time.Second)
		if made := s.dials(); len(made) == 0 || made[0] != "10.0.0.2:17" {
			t.Errorf("the name's first address led to %v", made)
		}
		s.set(func() { s.names["seed.example"] = []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.3")} })
		time.Sleep(4 * time.Second)
		if made := s.dials(); len(made) == 0 || made[len(made)-1] != "10.0.0.3:17" {
			t.Errorf("the name's second address led to %v", made)
		}
	})
}

func TestLostTargetIsMissedAtOnceAndChurnIsNot(t *testing.T) {
	joins(t, []string{"10.0.0.2", "seed.example"}, func(t *testing.T, s *story) {
		s.set(func() { s.names["seed.example"] = []netip.Addr{netip.MustParseAddr("10.0.0.3")} })
		s.see("10.0.0.2:7946", "10.0.0.3:7946")
		time.Sleep(2 * time.Minute)
		s.dials()
		s.set(func() { s.asked = 0 })
		for range 200 { // others come and go
			s.see("10.0.0.2:7946", "10.0.0.3:7946", "10.0.0.4:7946")
			time.Sleep(50 * time.Millisecond)
			s.see("10.0.0.2:7946", "10.0.0.3:7946")
			time.Sleep(50 * time.Millisecond)
		}
		s.set(func() {
			if len(s.dialed) > 0 || s.asked > 3 {
				t.Errorf("20 s of churn led to %d look-ups and %v", s.asked, s.dialed)
			}
		})
		s.see("10.0.0.3:7946")
		time.Sleep(time.Second)
		if made := s.dials(); len(made) == 0 || made[0] != "10.0.0.2:7946" {
			t.Errorf("a lost target led to %v", made)
		}
	})
}

// A target behind another address than it tells is joined as often as one in
// view is looked at, and no more.
func TestTargetBehindAnotherAddress(t *testing.T) {
	joins(t, []string{"10.0.0.2"}, func(t *testing.T, s *story) {
		s.set(func() { s.answer["10.0.0.2:7946"] = true })
		s.see("10.9.9.9:7946")
		time.Sleep(10 * time.Minute)
		if n := len(s.dials()); n < 14 || n > 28 {
			t.Errorf("%d joins in ten minutes", n)
		}
	})
}

func TestSettling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &story{log: &journal{}}
		c := testConfig("a", "10.0.0.1")
		c.Log = s.log.logger()
		var err error
		if s.pool, err = New(c); err != nil {
			t.Fatal(err)
		}
		s.pool.self.gossip = at("10.0.0.1:7946")
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		defer work.Wait()
		defer cancel()
		work.Go(func() { newSettler(s.pool, s.dial).run(ctx) })
		wait := func(what string, want int) {
			t.Helper()
			time.Sleep(time.Hour)
			made := s.dials()
			if len(made) != want || slices.Contains(made, "10.0.0.1:7946") {
				t.Errorf("%s led to %v, want %d", what, made, want)
			}
		}
		wait("nobody", 0)
		s.see("10.0.0.1:7946", "10.0.0.2:7946", "10.0.0.3:7946")
		wait("two others", len(settlePauses))
		s.see("10.0.0.2:7946", "10.0.0.4:7946")
		wait("another", 0)
		s.see()
		wait("being alone", 0)
		s.see("10.0.0.2:7946")
		wait("being found again", len(settlePauses))
		s.see()
		s.see("10.0.0.2:7946")
		time.Sleep(1500 * time.Millisecond)
		s.see()
		time.Sleep(time.Hour)
		if n := len(s.dials()); n > 1 {
			t.Errorf("%d exchanges with those who are gone", n)
		}
	})
}

// A switch between two agents, for tests.
type cuttable struct {
	*transport
	cut *atomic.Bool
}

var errCut = errors.New("cut")

func (c *cuttable) WriteTo(b []byte, address string) (time.Time, error) {
	return c.WriteToAddress(b, memberlist.Address{Addr: address})
}

func (c *cuttable) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if c.cut.Load() {
		return time.Now(), nil
	}
	return c.transport.WriteToAddress(b, a)
}

func (c *cuttable) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return c.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

func (c *cuttable) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if c.cut.Load() {
		return nil, errCut
	}
	return c.transport.DialAddressTimeout(a, timeout)
}

// After a partition agents find each other: by the join targets, and without
// one that lives by Serf's own dialling of who failed, which takes names apart.
func TestHealedPartition(t *testing.T) {
	for name, withSeed := range map[string]bool{"by the seed": true, "by Serf": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var cut atomic.Bool
			var log journal
			cuttably := func(c Config) *runner {
				c.Log = log.logger()
				r := newRunner(t, c)
				tune := r.tune
				r.Pool.tune = func(c *serf.Config) {
					tune(c)
					c.MemberlistConfig.Transport = &cuttable{r.sockets, &cut}
					if withSeed {
						c.ReconnectInterval = time.Hour
					} else {
						// Else a late word of the failure reaches whom it is about.
						c.MemberlistConfig.GossipToTheDeadTime = 50 * time.Millisecond
					}
				}
				r.start()
				return r
			}
			seed := cuttably(testConfig("a", newIP()))
			b := cuttably(testConfig("b", newIP(), seed.GossipAddress()))
			c := cuttably(testConfig("c", newIP(), seed.GossipAddress()))
			for _, r := range []*runner{b, c} {
				r.sees("a", "b", "c")
			}
			rest := []string{"a", "b", "c"}
			if !withSeed {
				seed.leave()
				rest = rest[1:]
				b.sees(rest...)
				c.sees(rest...)
			}
			cut.Store(true)
			b.sees("b")
			c.sees("c")
			if !withSeed { // so long that memberlist forgot them
				eventually(t, "Serf dialling those who failed", func() bool {
					return log.count("attempting reconnect to b") > 1 && log.count("attempting reconnect to c") > 1
				})
			}
			cut.Store(false)
			b.sees(rest...)
			c.sees(rest...)
		})
	}
}
