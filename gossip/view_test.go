package gossip

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/serf/serf"
)

func testCard() card {
	return card{name: "b", incarnation: 0xbeef, started: 1700000000000, address: "10.0.0.2:7950",
		serverID: "server", clusterID: "cluster", forwarder: true}
}

func TestCardIsReadAsWritten(t *testing.T) {
	for name, change := range map[string]func(*card){
		"full":       func(*card) {},
		"no ids yet": func(c *card) { c.serverID, c.clusterID, c.forwarder = "", "", false },
		"largest":    func(c *card) { c.incarnation, c.started = 1<<64-1, 1<<62 },
		"hash":       func(c *card) { c.name = "b#beef" },
	} {
		t.Run(name, func(t *testing.T) {
			c := testCard()
			change(&c)
			tags := c.tags()
			tags["later"] = "what a later release says"
			got, err := readCard(&serf.Member{Name: c.node(), Tags: tags})
			if err != nil || got != c {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestGarbageIsNoCard(t *testing.T) {
	for name, change := range map[string]func(*serf.Member){
		"no tags":            func(m *serf.Member) { m.Tags = nil },
		"old protocol":       func(m *serf.Member) { m.Tags = map[string]string{"role": "\x00\x01"} },
		"another's name":     func(m *serf.Member) { m.Tags[tagName] = "c" },
		"control in name":    func(m *serf.Member) { m.Tags[tagName] = "b\n"; m.Name = "b\n#beef" },
		"long name":          func(m *serf.Member) { n := strings.Repeat("b", 129); m.Tags[tagName] = n; m.Name = n + "#beef" },
		"no incarnation":     func(m *serf.Member) { delete(m.Tags, tagIncarnation) },
		"wide incarnation":   func(m *serf.Member) { m.Tags[tagIncarnation] = strings.Repeat("f", 17) },
		"other incarnation":  func(m *serf.Member) { m.Tags[tagIncarnation] = "beee" },
		"padded incarnation": func(m *serf.Member) { m.Tags[tagIncarnation] = "0beef"; m.Name = "b#0beef" },
		"no start":           func(m *serf.Member) { m.Tags[tagStarted] = "!" },
		"no address":         func(m *serf.Member) { delete(m.Tags, tagAddress) },
		"wild address":       func(m *serf.Member) { m.Tags[tagAddress] = "[::]:1" },
		"spaced address":     func(m *serf.Member) { m.Tags[tagAddress] = "a b:1" },
		"URL for address":    func(m *serf.Member) { m.Tags[tagAddress] = "unix:///x:1" },
		"address, port 0":    func(m *serf.Member) { m.Tags[tagAddress] = "10.0.0.2:0" },
		"long address":       func(m *serf.Member) { m.Tags[tagAddress] = strings.Repeat("h", 140) + ":1" },
		"long server id":     func(m *serf.Member) { m.Tags[tagServerID] = strings.Repeat("s", 65) },
		"odd cluster id":     func(m *serf.Member) { m.Tags[tagClusterID] = "c\x1b[31m" },
	} {
		t.Run(name, func(t *testing.T) {
			c := testCard()
			m := &serf.Member{Name: c.node(), Tags: c.tags()}
			change(m)
			if got, err := readCard(m); err == nil {
				t.Errorf("read as %+v", got)
			}
		})
	}
}

// FuzzCard: what is read is within its bounds, and is written as it was read.
func FuzzCard(f *testing.F) {
	c := testCard()
	f.Add(c.node(), c.name, "beef", "loyw3v28", c.address, c.serverID, c.clusterID, roleForwarder)
	f.Add("", "", "", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, node, name, incarnation, started, address, server, cluster, role string) {
		c, err := readCard(&serf.Member{Name: node, Tags: map[string]string{
			tagName: name, tagIncarnation: incarnation, tagStarted: started, tagAddress: address,
			tagServerID: server, tagClusterID: cluster, tagRole: role,
		}})
		if err != nil {
			return
		}
		size := 0
		for key, value := range c.tags() {
			size += len(key) + len(value)
		}
		if size > 460 {
			t.Errorf("%d bytes of tags", size)
		}
		again, err := readCard(&serf.Member{Name: node, Tags: c.tags()})
		if err != nil || again != c {
			t.Errorf("%+v is read as %+v, %v", c, again, err)
		}
	})
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestWhoIsTold(t *testing.T) {
	self := sighting{alive: true, card: card{name: "a", incarnation: 1, started: 10, address: "self:1", serverID: "A"}}
	old := sighting{card: card{name: "b", incarnation: 9, started: 10, address: "old:1", serverID: "B"}}
	young := sighting{card: card{name: "b", incarnation: 2, started: 20, address: "young:1", serverID: "B"}}
	living := func(s sighting) sighting { s.alive = true; return s }
	renamed := young
	renamed.card.name = "c"
	for name, tt := range map[string]struct {
		seen    []sighting
		told    string // name@address of members, ! for failed
		servers map[string]string
		twins   string
	}{
		"alone":           {nil, "a@self:1", map[string]string{"A": "self:1"}, ""},
		"both alive":      {[]sighting{living(old), living(young)}, "a@self:1 b@young:1", map[string]string{"A": "self:1", "B": "young:1"}, "b"},
		"old one failed":  {[]sighting{old, living(young)}, "a@self:1 b@young:1", map[string]string{"A": "self:1", "B": "young:1"}, ""},
		"new one failed":  {[]sighting{young, living(old)}, "a@self:1 b@old:1", map[string]string{"A": "self:1", "B": "old:1"}, ""},
		"both failed":     {[]sighting{young, old}, "a@self:1 b@young:1!", map[string]string{"A": "self:1", "B": "young:1"}, ""},
		"renamed":         {[]sighting{living(renamed), old}, "a@self:1 b@old:1! c@young:1", map[string]string{"A": "self:1", "B": "young:1"}, ""},
		"another self":    {[]sighting{living(sighting{card: card{name: "a", incarnation: 7, started: 99, address: "x:1", serverID: "A"}})}, "a@self:1", map[string]string{"A": "self:1"}, "a"},
		"own server id":   {[]sighting{living(sighting{card: card{name: "z", started: 99, address: "x:1", serverID: "A"}})}, "a@self:1 z@x:1", map[string]string{"A": "self:1"}, ""},
		"no server id":    {[]sighting{living(sighting{card: card{name: "z", address: "x:1"}})}, "a@self:1 z@x:1", map[string]string{"A": "self:1"}, ""},
		"same start time": {[]sighting{living(old), living(func() sighting { s := young; s.card.started = 10; return s }())}, "a@self:1 b@old:1", map[string]string{"A": "self:1", "B": "old:1"}, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				v := newView(self, tt.seen, nil)
				var told []string
				for _, m := range v.members {
					s := m.Name + "@" + m.Address
					if !m.Alive {
						s += "!"
					}
					told = append(told, s)
				}
				if got := strings.Join(told, " "); got != tt.told {
					t.Errorf("told %s, want %s", got, tt.told)
				}
				if !maps.Equal(v.servers, tt.servers) {
					t.Errorf("servers %v, want %v", v.servers, tt.servers)
				}
				if got := strings.Join(slices.Sorted(maps.Keys(v.twins)), " "); got != tt.twins {
					t.Errorf("twins %q, want %q", got, tt.twins)
				}
				slices.Reverse(tt.seen) // Serf's order means nothing
			}
		})
	}
}

// A replaced start is forgotten soon, others when Serf does.
func TestReaper(t *testing.T) {
	p, err := New(testConfig("a", "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	old, young := testCard(), testCard()
	young.incarnation, young.started = 0xcafe, old.started+1
	member := func(c card, status serf.MemberStatus) serf.Member {
		return serf.Member{Name: c.node(), Tags: c.tags(), Status: status, Addr: []byte{10, 0, 0, 2}, Port: 7946}
	}
	day := 24 * time.Hour
	for name, tt := range map[string]struct {
		members []serf.Member // the first is asked about
		want    time.Duration
	}{
		"failed":               {[]serf.Member{member(old, serf.StatusFailed)}, day},
		"failed and replaced":  {[]serf.Member{member(old, serf.StatusFailed), member(young, serf.StatusAlive)}, replacedKept},
		"both failed":          {[]serf.Member{member(old, serf.StatusFailed), member(young, serf.StatusFailed)}, day},
		"newest is the failed": {[]serf.Member{member(young, serf.StatusFailed), member(old, serf.StatusAlive)}, replacedKept},
		"left":                 {[]serf.Member{member(old, serf.StatusLeft)}, leftKept},
		"stranger":             {[]serf.Member{{Name: "x", Status: serf.StatusFailed}}, day},
	} {
		t.Run(name, func(t *testing.T) {
			p.see(tt.members, newStrangers(p.log))
			if got := (reaper{p}).ReconnectTimeout(&tt.members[0], day); got != tt.want {
				t.Errorf("kept for %s, want %s", got, tt.want)
			}
		})
	}
}

func TestTwiceIsPatientAndNotNoisy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		double := newTwice(time.Minute)
		start := time.Now()
		pair := []sighting{{card: card{serverID: "1", address: "x:1"}}, {card: card{serverID: "2", address: "x:1"}}}
		copied := []sighting{{card: card{serverID: "1", address: "x:1"}}, {card: card{serverID: "1", address: "y:1"}}}
		look := func(after time.Duration, twins map[string][]sighting, want int) {
			t.Helper()
			double.look(start.Add(after), twins, log.logger())
			if got := log.count("level=WARN"); got != want {
				t.Errorf("%s after the start there are %d warnings, want %d", after, got, want)
			}
		}
		look(0, map[string][]sighting{"b": pair}, 0)
		look(59*time.Second, map[string][]sighting{"b": pair}, 0)
		look(60*time.Second, map[string][]sighting{"b": pair}, 1)
		look(100*time.Second, map[string][]sighting{"b": pair}, 1)
		look(120*time.Second, map[string][]sighting{"b": pair}, 2)
		look(121*time.Second, nil, 2)
		look(180*time.Second, map[string][]sighting{"b": copied}, 2)
		look(240*time.Second, map[string][]sighting{"b": copied}, 3)
		if log.count("one data directory") != 1 {
			t.Error("a copied directory is not named")
		}
		many := make(map[string][]sighting)
		for _, r := range "ABCDEFGHIJKLMNOP" {
			many[string(r)] = pair
		}
		look(500*time.Second, many, 3)
		look(560*time.Second, many, 3+twiceMax)
		if len(double.since) != len(many) || len(double.warned) > len(many) {
			t.Error("memory is kept of names that are gone")
		}
	})
}

// Two server ids at two addresses are no restart: the word comes soon, names
// both and what to do, and is repeated once a minute.
func TestTwoAgentsOfOneNameAreWarnedOfSoon(t *testing.T) {
	var log journal
	double := newTwice(twiceAfter)
	one := sighting{alive: true, card: card{name: "b", incarnation: 1, serverID: "1", address: "x:1"}}
	again := sighting{alive: true, card: card{name: "b", incarnation: 2, serverID: "1", address: "z:1"}}
	other := sighting{alive: true, card: card{name: "b", incarnation: 3, serverID: "2", address: "y:1"}}
	start := time.Now()
	// The restart of one goes before: only from the other's coming on it counts.
	for second := range 200 {
		starts := []sighting{one, again}
		if second >= 30 {
			starts = append(starts, other)
		}
		double.look(start.Add(time.Duration(second)*time.Second), map[string][]sighting{"b": starts}, log.logger())
		want := 0
		if soonest := 30 + int(twoAfter/time.Second); second >= soonest {
			want = 1 + (second-soonest)/60
		}
		if got := log.count("level=WARN", "--name", "agent=b", "x:1", "y:1"); got != want || log.count("level=WARN") != want {
			t.Fatalf("second %d: %d warnings, want %d", second, got, want)
		}
	}
	if twoAfter+refreshInterval >= 10*time.Second {
		t.Error("ten seconds may pass before the first warning")
	}
}

func TestAllHasEveryLivingAgentOfAName(t *testing.T) {
	living := func(name, id, address string, started int64) sighting {
		return sighting{alive: true, card: card{name: name, serverID: id, address: address, started: started, incarnation: uint64(started)}}
	}
	dead := func(s sighting) sighting { s.alive = false; return s }
	self := living("a", "A", "a:1", 10)
	for name, tt := range map[string]struct {
		seen []sighting
		all  string
	}{
		"two of a name":           {[]sighting{living("b", "B", "b:1", 1), living("b", "C", "c:1", 2)}, "a/A b/C b/B"},
		"three of a name":         {[]sighting{living("b", "B", "b:1", 1), living("b", "C", "c:1", 2), living("b", "D", "d:1", 3)}, "a/A b/D b/C b/B"},
		"the own name":            {[]sighting{living("a", "B", "b:1", 99), living("c", "C", "c:1", 2)}, "a/A a/B c/C"},
		"one failed":              {[]sighting{living("b", "B", "b:1", 1), dead(living("b", "C", "c:1", 2))}, "a/A b/B"},
		"both failed":             {[]sighting{dead(living("b", "B", "b:1", 1)), dead(living("b", "C", "c:1", 2))}, "a/A b/C"},
		"restart elsewhere":       {[]sighting{living("b", "B", "b:1", 1), living("b", "B", "c:1", 2)}, "a/A b/B"},
		"empty directory":         {[]sighting{living("b", "B", "b:1", 1), living("b", "C", "b:1", 2)}, "a/A b/C"},
		"empty directory, itself": {[]sighting{living("a", "B", "a:1", 1)}, "a/A"},
		"no id yet":               {[]sighting{living("b", "B", "b:1", 1), living("b", "", "c:1", 2)}, "a/A b/"},
		"restart of one of two":   {[]sighting{living("b", "B", "b:1", 1), living("b", "B", "x:1", 2), living("b", "C", "c:1", 3)}, "a/A b/C b/B"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				v := newView(self, tt.seen, nil)
				var all []string
				for _, m := range v.all {
					all = append(all, m.Name+"/"+m.ServerID)
					if address := v.servers[m.ServerID]; m.ServerID != "" && address != m.Address {
						t.Errorf("server %s is at %q, told at %q", m.ServerID, address, m.Address)
					}
				}
				if got := strings.Join(all, " "); got != tt.all {
					t.Errorf("told %s, want %s", got, tt.all)
				}
				slices.Reverse(tt.seen) // Serf's order means nothing
			}
		})
	}
}

func TestStrangersAreLoggedOnceInBoundedMemory(t *testing.T) {
	var log journal
	s := newStrangers(log.logger())
	for i := range 3 * strangersMax {
		m := &serf.Member{Name: strings.Repeat("x", 1000)[:100+i%200] + "\n"}
		s.met(m, errors.New("odd"))
		s.met(m, errors.New("odd"))
	}
	if len(s.seen) > strangersMax {
		t.Errorf("%d are remembered", len(s.seen))
	}
	if lines := log.count("not understood"); lines > 3*strangersMax || lines < 150 {
		t.Errorf("%d lines", lines)
	}
}

func TestLinesOfSerf(t *testing.T) {
	for line, want := range map[string]string{
		"[DEBUG] memberlist: x":               "level=DEBUG",
		"[INFO] serf: EventMemberJoin: a":     "level=INFO",
		"[WARN] serf: x":                      "level=WARN",
		"[ERR] memberlist: x":                 "level=ERROR",
		"[ERR] Failed to shutdown transport":  "level=ERROR",
		"no level":                            "level=INFO",
		"[INFO] two\nlevel=ERROR lines":       "level=INFO",
		"[INFO] " + strings.Repeat("x", 9999): "level=INFO",
	} {
		var log journal
		newSerfLogger(log.logger()).Print(line)
		if log.count() != 1 || log.count(want, "component=serf") != 1 {
			t.Errorf("%.40q gives %s", line, log.text.String())
		}
		if log.text.Len() > lineBytesMax+200 {
			t.Errorf("%d bytes are logged", log.text.Len())
		}
	}
}

// A flood of strangers' packets is no flood of lines.
func TestLinesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		library := newSerfLogger(log.logger())
		for range 60_000 {
			time.Sleep(time.Millisecond)
			library.Print("[ERR] memberlist: decrypt packet failed")
		}
		if n := log.count("level=ERROR"); n != 6*linesMax {
			t.Errorf("%d lines in a minute", n)
		}
		if n := log.count("level=WARN", "left untold"); n != 5 {
			t.Errorf("%d words of what was left out", n)
		}
		for range 2 * linesMax {
			library.Print("[DEBUG] memberlist: x")
		}
		if n := log.count("level=DEBUG"); n != 2*linesMax {
			t.Errorf("%d of debugging", n)
		}
	})
}
