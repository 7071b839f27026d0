package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/raftlock/raftlock/fsm/command"
)

// doing applies the lines of a story to a new state.
func doing(t *testing.T, lines ...string) *story {
	t.Helper()
	y := newStory(t)
	for _, l := range lines {
		y.line(strings.Fields(l))
	}
	return y
}

func names(page []LockInfo) (out []string) {
	for _, l := range page {
		out = append(out, l.Lock)
	}
	return out
}

func TestList(t *testing.T) {
	y := doing(t, "open a", "open b agent=h2",
		"acquire a 2 app/one meta=job:1,team:x", "acquire a 3 app/two meta=job:2", "acquire b 2 db/one meta=team:x",
		"acquire b 3 app/two", "plain-acquire alice db/two")
	v := y.s.View()
	team := []*command.Pair{{Key: "team", Value: "x"}}
	for name, c := range map[string]struct {
		f    Filter
		want []string
		next string
	}{
		"all":               {Filter{}, []string{"app/one", "app/two", "db/one", "db/two"}, ""},
		"prefix":            {Filter{Prefix: "app/"}, []string{"app/one", "app/two"}, ""},
		"prefix of nothing": {Filter{Prefix: "zzz"}, nil, ""},
		"pattern":           {Filter{Pattern: "*/o?e"}, []string{"app/one", "db/one"}, ""},
		"owner":             {Filter{Owner: "alice"}, []string{"db/two"}, ""},
		"identity as owner": {Filter{Owner: "uid:1000"}, []string{"app/one", "app/two", "db/one"}, ""},
		"agent as owner":    {Filter{Owner: "h2"}, nil, ""},
		"contested":         {Filter{Contested: true}, []string{"app/two"}, ""},
		"metadata":          {Filter{Metadata: team}, []string{"app/one", "db/one"}, ""},
		"limit":             {Filter{Limit: 2}, []string{"app/one", "app/two"}, "app/two"},
		"after":             {Filter{Limit: 2, After: "app/two"}, []string{"db/one", "db/two"}, ""},
		"after in a prefix": {Filter{Prefix: "app/", After: "app/one"}, []string{"app/two"}, ""},
		"after the prefix":  {Filter{Prefix: "app/", After: "db"}, nil, ""},
		"above the maximum": {Filter{Limit: 1 << 20}, []string{"app/one", "app/two", "db/one", "db/two"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			page, next := v.List(c.f)
			if !slices.Equal(names(page), c.want) || next != c.next {
				t.Errorf("got %v next %q, want %v next %q", names(page), next, c.want, c.next)
			}
		})
	}
}

// TestListScansInBounds: a page ends when it searched long enough, and the
// pages together still find everything.
func TestListScansInBounds(t *testing.T) {
	s := New()
	for i := range 3 * listScan {
		s.locks.Set(lock{name: fmt.Sprintf("%08d", i), holder: &use{}})
	}
	pages := 0
	for after := ""; ; pages++ {
		page, next := s.View().List(Filter{Pattern: "nothing", After: after})
		if len(page) > 0 {
			t.Fatal(names(page))
		}
		if next == "" {
			break
		}
		after = next
	}
	if pages < 2 {
		t.Fatalf("%d pages", pages)
	}
}

// TestListIsBoundedInSize: a page travels as one frame, however much its locks
// say of themselves, and the pages together still tell all.
func TestListIsBoundedInSize(t *testing.T) {
	const locks = 1000
	y := doing(t, "open a")
	meta := "meta="
	for i := range 256 {
		meta += fmt.Sprintf("%02x:%s,", i, strings.Repeat("x", 14))
	}
	for i := range locks {
		y.line(strings.Fields(fmt.Sprintf("acquire a %d lock/%04d %s", i+2, i, strings.TrimSuffix(meta, ","))))
	}
	found, after := 0, ""
	for {
		page, next := y.s.View().List(Filter{Limit: locks, After: after})
		size := 0
		for _, l := range page {
			size += len(l.Lock) + len(l.Holder.Owner) + len(l.Holder.Agent)
			for _, p := range l.Metadata {
				size += len(p.Key) + len(p.Value)
			}
		}
		if found += len(page); len(page) == 0 || size > 256<<10 {
			t.Fatalf("a page of %d locks and %d bytes", len(page), size)
		}
		if next == "" {
			break
		}
		after = next
	}
	if found != locks {
		t.Errorf("found %d of %d", found, locks)
	}
}

func TestSessions(t *testing.T) {
	v := doing(t, "open a", "open b agent=h2", "open c", "open d inc=7", "plain-acquire alice x").s.View()
	of := func(names ...string) (ids []ID) {
		for _, n := range names {
			ids = append(ids, sessionID(n))
		}
		slices.SortFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
		return ids
	}
	x, _ := v.Session(sessionID("a"))
	all := of("a", "c", "d")
	for name, c := range map[string]struct {
		f    SessionFilter
		want []ID
		next *ID
	}{
		"an agent's":          {SessionFilter{Agent: x.Agent}, all, nil},
		"another's":           {SessionFilter{Agent: "h2"}, of("b"), nil},
		"nobody's":            {SessionFilter{Agent: "h3"}, nil, nil},
		"another incarnation": {SessionFilter{Agent: x.Agent, NotIncarnation: x.Incarnation}, of("d"), nil},
		"after":               {SessionFilter{Agent: x.Agent, After: &all[0]}, all[1:], nil},
		"after the last":      {SessionFilter{Agent: x.Agent, After: &ID{0xff}}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			page, next := v.Sessions(c.f)
			var got []ID
			for _, i := range page {
				got = append(got, i.ID)
			}
			if !slices.Equal(got, c.want) || next != nil {
				t.Errorf("got %x then %x, want %x", got, next, c.want)
			}
		})
	}
	var got []ID
	for f := (SessionFilter{Agent: x.Agent, Limit: 1}); ; {
		page, next := v.Sessions(f)
		if len(page) > 1 {
			t.Fatalf("a page of %d", len(page))
		}
		for _, i := range page {
			got = append(got, i.ID)
		}
		if f.After = next; next == nil {
			break
		}
	}
	if !slices.Equal(got, all) {
		t.Errorf("in pages: %x, want %x", got, all)
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"*", "", true}, {"?", "", false}, {"a*c", "abbc", true}, {"a*c", "abb", false},
		{"*a*b*", "xxaxxbxx", true}, {"é?", "éü", true}, {"a", "ab", false}, {"ab", "a", false}, {"a**", "a", true},
		{"*" + strings.Repeat("a*", 200) + "b", strings.Repeat("a", 500), false},
	} {
		if got := matches(c.pattern, c.name); got != c.want {
			t.Errorf("matches(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func TestViewDescribes(t *testing.T) {
	y := doing(t, "establish c1", "open a agent=h7", "open b", "acquire a 2 L meta=k:v", "acquire b 2 L",
		"plain-acquire alice P", "plain-acquire bob P id=r1", "revoke L", "acquire b 3 P try")
	v := y.s.View()
	l, ok := v.Get("L")
	if !ok || l.Holder.Agent != "h7" || l.Seq != 2 || !l.Revoked || l.Waiters != 1 || l.Metadata[0].Value != "v" || l.Plain {
		t.Errorf("L: %+v", l)
	}
	if p, _ := v.Get("P"); !p.Plain || p.Holder.Owner != "alice" || p.TTLNanos != nanos("10s") {
		t.Errorf("P: %+v", p)
	}
	if _, ok := v.Get("none"); ok {
		t.Error("a lock that nobody holds is there")
	}
	if v.Index() != y.s.Index() || v.Term() != 1 {
		t.Errorf("index %d term %d", v.Index(), v.Term())
	}
	if i, ok := v.Session(sessionID("a")); !ok || i.Agent != "h7" {
		t.Errorf("session: %+v", i)
	}
	if _, ok := v.Session(sessionID("nobody")); ok {
		t.Error("nobody is there")
	}
	if st, ok := v.Standing(sessionID("b"), 2); !ok || st.Position != 1 {
		t.Errorf("b/2: %v", st)
	}
	if st, ok := v.Standing(sessionID("b"), 3); !ok || st.Gone != command.Gone_GONE_REFUSED {
		t.Errorf("b/3: %v", st)
	}
	if _, ok := v.Standing(sessionID("b"), 1); ok {
		t.Error("an open has no standing")
	}
	for request, want := range map[string]string{"": "alice", "r1": "bob"} {
		if st, ok := v.PlainStanding(want, "P", request); !ok || st.Seq != 0 {
			t.Errorf("%s: %v", want, st)
		}
	}
	if _, ok := v.PlainStanding("bob", "P", "r2"); ok {
		t.Error("bob's r2 never asked")
	}
	y.s.Revoked(func(h HoldInfo) bool {
		if h.Lock != "L" || h.Seq != 2 || h.Token != 1 || h.TTLNanos != nanos("10s") || h.Attachment != 1 {
			t.Errorf("revoked: %+v", h)
		}
		return true
	})
}

// TestViewStandsStill: views read while applies go on show one index, all of it.
func TestViewStandsStill(t *testing.T) {
	s := New()
	r := rand.New(rand.NewPCG(3, 3))
	var group sync.WaitGroup
	for range 60 {
		for range 50 {
			s.Apply(s.Index()+1, 1, marshal(t, 1, someCommand(r.IntN, s)))
		}
		v, hash := s.View(), s.Hash()
		group.Go(func() {
			var b bytes.Buffer
			if err := v.Snapshot(&b); err != nil {
				t.Error(err)
			}
			again, err := Restore(&b)
			if err != nil || again.Hash() != hash {
				t.Errorf("a view moved: %v", err)
			}
			v.List(Filter{})
		})
	}
	group.Wait()
}

func snapshotOf(t testing.TB, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.View().Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// mixed is a small state that has some of everything.
func mixed(t *testing.T) *State {
	return doing(t, "establish c1", "open a process=1 pid=3 start=4 boot=x", "open b", "acquire a 2 L meta=k:v", "acquire b 2 L prio=-4",
		"acquire b 3 L try", "ttl a 3 20s", "ack a ack=1,9", "plain-acquire alice P", "plain-acquire bob P id=r1", "revoke L").s
}

// TestRestoreRefuses: no byte of a snapshot can be changed, cut or added.
func TestRestoreRefuses(t *testing.T) {
	good := snapshotOf(t, mixed(t))
	if _, err := Restore(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x11
		if s, err := Restore(bytes.NewReader(bad)); s != nil || !errors.Is(err, ErrSnapshot) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if s, err := Restore(bytes.NewReader(good[:i])); s != nil || !errors.Is(err, ErrSnapshot) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if _, err := Restore(bytes.NewReader(append(bytes.Clone(good), 0))); !errors.Is(err, ErrSnapshot) {
		t.Errorf("a byte added: %v", err)
	}
}

var errDisk = errors.New("disk")

// failing fails after so many bytes, in reading and writing.
type failing struct {
	left int
	from *bytes.Reader
}

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errDisk
	}
	return len(b), nil
}

func (f *failing) Read(b []byte) (int, error) {
	if f.left <= 0 {
		return 0, errDisk
	}
	n, err := f.from.Read(b[:min(len(b), f.left)])
	f.left -= n
	return n, err
}

func TestSnapshotErrors(t *testing.T) {
	s := mixed(t)
	good := snapshotOf(t, s)
	for i := range good {
		if err := s.View().Snapshot(&failing{left: i}); !errors.Is(err, errDisk) {
			t.Fatalf("written to %d: %v", i, err)
		}
		_, err := Restore(&failing{left: i, from: bytes.NewReader(good)})
		if !errors.Is(err, errDisk) || errors.Is(err, ErrSnapshot) {
			t.Fatalf("read to %d: %v", i, err)
		}
	}
	_, err := Restore(&failing{left: len(good), from: bytes.NewReader(good)})
	if !errors.Is(err, errDisk) {
		t.Fatalf("failed at the end: %v", err)
	}
}
