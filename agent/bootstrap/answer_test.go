package bootstrap

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/raftlock/raftlock/link/linkpb"
)

// memory is a Store, a View and an Asker that nobody answers.
type memory struct {
	data map[string][]byte
	fail error
	view []Member
}

func (m *memory) Load(key string) ([]byte, error) { return m.data[key], nil }

func (m *memory) Save(key string, value []byte) error {
	if m.fail != nil {
		return m.fail
	}
	m.data[key] = value
	return nil
}

func (m *memory) Members() []Member        { return m.view }
func (m *memory) Changed() <-chan struct{} { return nil }
func (m *memory) Ask(context.Context, string, *linkpb.Question) (*linkpb.Answer, error) {
	return nil, errRefused
}

func newMemory() *memory { return &memory{data: make(map[string][]byte)} }

// config is of the agent n2 of three.
func (m *memory) config() Config {
	cfg := DefaultConfig()
	cfg.Name, cfg.Address, cfg.ServerID, cfg.Expect = "n2", "at-n2", "s2", 3
	cfg.View, cfg.Store, cfg.Ask, cfg.Log, cfg.Rand = m, m, m, slog.New(slog.DiscardHandler), zeros{}
	return cfg
}

// zeros is a source of no randomness.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func mustNew(t *testing.T, cfg Config) *Bootstrap {
	t.Helper()
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// listOf is a list of n1, n2 and n3 with n1 as its founder, by any other id.
func listOf(id string) *list {
	return &list{ClusterID: id, Founder: "n1", Members: []peer{
		{"n1", "s1", "at-n1"}, {"n2", "s2", "at-n2"}, {"n3", "s3", "at-n3"},
	}}
}

func TestPromise(t *testing.T) {
	elsewhere := Member{Name: "n9", Address: "at-n9", ServerID: "s9", ClusterID: "c9"}
	changed := func(change func(*list)) *linkpb.Founding {
		l := listOf("x")
		change(l)
		return promiseMessage(l)
	}
	for _, c := range []struct {
		name   string
		before []*linkpb.Founding
		config func(*Config)
		record *record
		view   []Member
		ask    *linkpb.Founding
		ok     bool
		bound  string
		member string
	}{
		{name: "a free agent promises", ask: promiseMessage(listOf("x")), ok: true, bound: "x"},
		{name: "again to the same list", before: []*linkpb.Founding{promiseMessage(listOf("x"))}, ask: promiseMessage(listOf("x")), ok: true, bound: "x"},
		{name: "not to a second list", before: []*linkpb.Founding{promiseMessage(listOf("x"))}, ask: promiseMessage(listOf("y")), bound: "x"},
		{name: "to a second list once the first is abandoned", before: []*linkpb.Founding{promiseMessage(listOf("x")), abandonMessage("x")},
			ask: promiseMessage(listOf("y")), ok: true, bound: "y"},
		{name: "a late abandon of an older list frees nothing", before: []*linkpb.Founding{promiseMessage(listOf("x")), abandonMessage("x"), promiseMessage(listOf("y"))},
			ask: abandonMessage("x"), ok: true, bound: "y"},
		{name: "an abandon of nothing", ask: abandonMessage("x"), ok: true},
		{name: "a member of a cluster, out of sight of it", record: &record{Cluster: "c9"}, ask: promiseMessage(listOf("x")), member: "c9"},
		{name: "a voter of a cluster", record: &record{Cluster: "y", Listed: true, Promise: listOf("y")}, ask: promiseMessage(listOf("x")), bound: "y", member: "y"},
		{name: "a cluster is in view", view: []Member{elsewhere}, ask: promiseMessage(listOf("x")), member: "c9"},
		{name: "a cluster came in view since", before: []*linkpb.Founding{promiseMessage(listOf("x"))}, view: []Member{elsewhere},
			ask: promiseMessage(listOf("x")), member: "c9"},
		{name: "a forwarder", config: func(c *Config) { c.Forwarder = true }, ask: promiseMessage(listOf("x"))},
		{name: "a list for another expect", config: func(c *Config) { c.Expect = 5 }, ask: promiseMessage(listOf("x"))},
		{name: "not the initial list", config: func(c *Config) { c.Initial = []string{"n2", "n3", "n4"} }, ask: promiseMessage(listOf("x"))},
		{name: "the initial list", config: func(c *Config) { c.Initial = []string{"n3", "n2", "n1"} }, ask: promiseMessage(listOf("x")), ok: true, bound: "x"},
		{name: "a list of this name's former server", ask: changed(func(l *list) { l.Members[1].ServerID = "old" })},
		{name: "a list without this agent", ask: changed(func(l *list) { l.Members[1].Name = "n4" })},
		{name: "a list that names this agent as founder", ask: changed(func(l *list) { l.Founder = "n2" })},
		{name: "a list without its founder", ask: changed(func(l *list) { l.Founder = "n7" })},
		{name: "a list with one server twice", ask: changed(func(l *list) { l.Members[2].ServerID = "s1" })},
		{name: "a list without an id", ask: changed(func(l *list) { l.ClusterID = "" })},
		{name: "a list with an endless name", ask: changed(func(l *list) { l.Members[2].Name = strings.Repeat("n", 256) })},
		{name: "no list", ask: promiseMessage(&list{})},
		{name: "a start that was promised", before: []*linkpb.Founding{promiseMessage(listOf("x"))}, ask: startMessage("x"), ok: true, bound: "x", member: "x"},
		{name: "a start, twice", before: []*linkpb.Founding{promiseMessage(listOf("x")), startMessage("x")}, ask: startMessage("x"), ok: true, bound: "x", member: "x"},
		{name: "a start of another list", before: []*linkpb.Founding{promiseMessage(listOf("x"))}, ask: startMessage("y"), bound: "x"},
		{name: "a start of a list never promised", ask: startMessage("x")},
		{name: "a start of nothing", ask: startMessage("")},
		{name: "an abandon after the start", before: []*linkpb.Founding{promiseMessage(listOf("x")), startMessage("x")}, ask: abandonMessage("x"), bound: "x", member: "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemory()
			cfg := m.config()
			if c.config != nil {
				c.config(&cfg)
			}
			b := mustNew(t, cfg)
			if c.record != nil {
				rec := *c.record
				rec.Version, rec.ServerID = recordVersion, "s2"
				if _, err := b.update(func(r *record) bool { *r = rec; return true }); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range c.before {
				if a := b.Answer(f); !a.GetOk() {
					t.Fatalf("%v: %v", f, a)
				}
			}
			m.view = c.view
			a := b.Answer(c.ask)
			if a == nil || a.GetOk() != c.ok {
				t.Fatalf("answer %v, want ok %v", a, c.ok)
			}
			if !c.ok && a.GetMemberOf() != c.member {
				t.Errorf("refused as a member of %q, want %q", a.GetMemberOf(), c.member)
			}
			mustBeBound(t, cfg, c.bound, c.member)
		})
	}
}

// mustBeBound looks at what an agent that starts anew knows.
func mustBeBound(t *testing.T, cfg Config, list, cluster string) {
	t.Helper()
	rec, err := mustNew(t, cfg).current()
	if err != nil {
		t.Fatal(err)
	}
	if list != "" && !rec.promisedTo(list) {
		t.Errorf("after a restart it is not promised to %q but %+v", list, rec.Promise)
	}
	if rec.Cluster != "" && rec.Cluster != cluster {
		t.Errorf("after a restart it belongs to %q, want %q", rec.Cluster, cluster)
	}
}

func TestInquire(t *testing.T) {
	own := &record{Own: listOf("x"), Promise: listOf("x")}
	complete := &record{Own: listOf("x"), Promise: listOf("x"), Cluster: "x", Listed: true}
	founded := &record{Own: listOf("x"), Promise: listOf("x"), Cluster: "x", Listed: true, Founded: true}
	for _, c := range []struct {
		name        string
		record      *record
		id, founder string
		want        linkpb.FoundingAnswer_Standing
	}{
		{"the founder's list", own, "x", "s2", linkpb.FoundingAnswer_STANDING_STANDS},
		{"the founder's list, complete and not in Raft yet", complete, "x", "s2", linkpb.FoundingAnswer_STANDING_STANDS},
		{"the founder's list, founded", founded, "x", "s2", linkpb.FoundingAnswer_STANDING_COMPLETE},
		{"a list that it abandoned", own, "y", "s2", linkpb.FoundingAnswer_STANDING_ABANDONED},
		{"a list that it abandoned before it joined another", &record{Cluster: "z"}, "y", "s2", linkpb.FoundingAnswer_STANDING_ABANDONED},
		{"somebody else's list", own, "y", "s1", linkpb.FoundingAnswer_STANDING_UNSPECIFIED},
		{"its own list, asked as if of somebody else", own, "x", "s1", linkpb.FoundingAnswer_STANDING_UNSPECIFIED},
		{"a list that it is promised to", &record{Promise: listOf("x")}, "x", "s1", linkpb.FoundingAnswer_STANDING_UNSPECIFIED},
		{"the cluster that it belongs to", &record{Cluster: "x"}, "x", "", linkpb.FoundingAnswer_STANDING_COMPLETE},
		{"nothing", &record{}, "", "s2", linkpb.FoundingAnswer_STANDING_UNSPECIFIED},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := mustNew(t, newMemory().config())
			if _, err := b.update(func(r *record) bool { *r = *c.record; return true }); err != nil {
				t.Fatal(err)
			}
			if got := b.Answer(inquireMessage(c.id, c.founder)).GetStanding(); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// A promise is given only once it is durable, and after a save failed an agent
// says nothing more: it does not know what its disk holds.
func TestNoPromiseThatIsNotSaved(t *testing.T) {
	m := newMemory()
	b := mustNew(t, m.config())
	m.fail = errors.New("disk full")
	if a := b.Answer(promiseMessage(listOf("x"))); a != nil {
		t.Errorf("answered %v", a)
	}
	m.fail = nil
	if a := b.Answer(promiseMessage(listOf("x"))); a != nil {
		t.Errorf("after a failed save it answered %v", a)
	}
	if _, err := b.Run(t.Context()); !errors.Is(err, ErrStore) {
		t.Errorf("run: %v", err)
	}
	if err := b.Forget("x"); err == nil {
		t.Error("forget did not fail")
	}
	if err := b.Status().Err; !errors.Is(err, ErrStore) {
		t.Errorf("status: %v", err)
	}
	mustBeBound(t, m.config(), "", "")
}

func TestNoAnswerToNothing(t *testing.T) {
	b := mustNew(t, newMemory().config())
	for _, f := range []*linkpb.Founding{nil, {}} {
		if a := b.Answer(f); a != nil {
			t.Errorf("%v: %v", f, a)
		}
	}
}

func TestForgetRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		record record
		id     string
		heard  bool
		want   error
	}{
		{"what was promised", record{Promise: listOf("x")}, "x", false, nil},
		{"what was not promised", record{Promise: listOf("x")}, "y", false, ErrNotPromised},
		{"nothing", record{}, "", false, ErrNotPromised},
		{"its own list", record{Own: listOf("x"), Promise: listOf("x")}, "x", false, ErrFounderLives},
		{"a founder that was just heard", record{Promise: listOf("x")}, "x", true, ErrFounderLives},
		{"the cluster it belongs to", record{Promise: listOf("x"), Cluster: "x"}, "x", false, ErrBelongs},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := mustNew(t, newMemory().config())
			if _, err := b.update(func(r *record) bool { *r = c.record; return true }); err != nil {
				t.Fatal(err)
			}
			if c.heard {
				b.founderHeard()
			}
			if err := b.Forget(c.id); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestRecordThatCannotBeUsed(t *testing.T) {
	for name, text := range map[string]string{
		"not a record":         "{",
		"a later version":      `{"version":2,"server_id":"s2"}`,
		"of another server":    `{"version":1,"server_id":"s1"}`,
		"an empty file":        ``,
		"of no version at all": `{"server_id":"s2"}`,
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			m.data[recordKey] = []byte(text)
			if _, err := New(m.config()); !errors.Is(err, ErrRecord) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestServerIDLasts(t *testing.T) {
	m := newMemory()
	first, err := LoadServerID(m, strings.NewReader(strings.Repeat("r", idBytes)))
	if err != nil || len(first) != 2*idBytes {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := LoadServerID(m, zeros{}); err != nil || again != first {
		t.Errorf("%q, %v, want %q", again, err, first)
	}
	if id, err := LoadServerID(newMemory(), strings.NewReader("short")); err == nil {
		t.Errorf("%q without randomness", id)
	}
	full := newMemory()
	full.fail = errors.New("disk full")
	if id, err := LoadServerID(full, zeros{}); err == nil {
		t.Errorf("%q was not saved", id)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"as it is", func(*Config) {}, ""},
		{"two voters", func(c *Config) { c.Expect = 2 }, "must be 1, 3 or 5"},
		{"no name", func(c *Config) { c.Name = "" }, "name must have"},
		{"no server id", func(c *Config) { c.ServerID = "" }, "server id must have"},
		{"too few initial", func(c *Config) { c.Initial = []string{"n1"} }, "initial names 1 agents, expect says 3"},
		{"one initial twice", func(c *Config) { c.Initial = []string{"n1", "n2", "n1"} }, `initial names "n1" twice`},
		{"no store", func(c *Config) { c.Store = nil }, "must be handed in"},
		{"never still", func(c *Config) { c.Still = 0 }, "above zero"},
		{"no patience", func(c *Config) { c.Patience = time.Second }, "patience 1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := newMemory().config()
			c.change(&cfg)
			_, err := New(cfg)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
