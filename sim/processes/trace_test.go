package processes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// commitShape is what one proposal looks like from the agent that asks on.
const commitShape = "forward(commit(queue append replicate apply))"

// Two applications on two agents contend for a lock, a third agent leads: each
// has one trace from its own span to commit, apply and wait, and who waited is
// led to the trace of who was in the way.
func TestTrace(t *testing.T) {
	r := newReceiver(t)
	c, at := tracedCluster(t, r)
	const lock, held = "trace", 300 * time.Millisecond
	holder := at.voters[0].applicationAs(spawn{env: r.environment("holder")}).open(10 * time.Second)
	waiter := at.voters[1].applicationAs(spawn{env: r.environment("waiter")}).open(10 * time.Second)
	holder.lock(lock)
	granted := waiter.wait(lock, 1)
	waiter.must(order{Do: "idle", Patience: held})
	holder.must(order{Do: "unlock", Lock: lock})
	c.good(granted, "the waiter's lock")
	waiter.must(order{Do: "unlock", Lock: lock})

	release := "raftlock.release(serve(" + commitShape + "))"
	want := map[string]string{
		"holder": "work(raftlock.acquire(serve(" + commitShape + ")) " + release + ")",
		"waiter": "work(raftlock.acquire(serve(" + commitShape + " wait)) " + release + ")",
	}
	until(t, formTime, "every span is here", func() error {
		var errs []error
		for who, shape := range want {
			if got := r.root(who, "work").shape(); got != shape {
				errs = append(errs, fmt.Errorf("the %s's trace is %s, want %s", who, got, shape))
			}
		}
		return errors.Join(errs...)
	})
	first, second := r.root("holder", "work"), r.root("waiter", "work")
	r.keep(t, first, second)
	madeBy(t, first, "holder", at.voters[0].name, at.leader.name)
	madeBy(t, second, "waiter", at.voters[1].name, at.leader.name)
	leadsTo(t, second.find("wait"), first.find("forward"), at.voters[0].name)
	if took := second.find("wait").took(); took < held {
		t.Errorf("the wait took %v, the lock was held for %v of it", took, held)
	}
}

// The same of an application in Python, that waits for one in Go: the SDKs make
// the same spans of it.
func TestTraceOfPython(t *testing.T) {
	r := newReceiver(t)
	c, at := tracedCluster(t, r)
	const lock = "trace-python"
	holder := at.voters[0].applicationAs(spawn{env: r.environment("holder")}).open(10 * time.Second)
	waiter := at.voters[1].python(10 * time.Second)
	waiter.must(order{Do: "trace"})
	holder.lock(lock)
	granted := waiter.wait(lock, 1)
	holder.must(order{Do: "unlock", Lock: lock})
	c.good(granted, "the waiter's lock")
	waiter.must(order{Do: "unlock", Lock: lock})
	r.told(t, "waiter", waiter.must(order{Do: "spans"}).Spans)
	want := "work(raftlock.acquire(serve(" + commitShape + " wait)) raftlock.release(serve(" + commitShape + ")))"
	until(t, formTime, "every span is here", func() error {
		if got := r.root("waiter", "work").shape(); got != want {
			return fmt.Errorf("the waiter's trace is %s, want %s", got, want)
		}
		if r.root("holder", "work").find("forward") == nil {
			return errors.New("nothing of the holder's trace")
		}
		return nil
	})
	first, second := r.root("holder", "work"), r.root("waiter", "work")
	r.keep(t, first, second)
	madeBy(t, second, "waiter", at.voters[1].name, at.leader.name)
	leadsTo(t, second.find("wait"), first.find("forward"), at.voters[0].name)
}

// tracedCluster is three agents that send their spans to r.
func tracedCluster(t *testing.T, r *receiver) (*cluster, roles) {
	t.Helper()
	c := newCluster(t, plan{agents: 3, expect: 3})
	for _, a := range c.agents {
		a.startAs(spawn{env: r.environment("")})
	}
	c.whole(2*formTime, 3)
	at := c.roles()
	if len(at.voters) != 2 {
		t.Fatalf("%d voters beside the leader", len(at.voters))
	}
	return c, at
}

// Plain requests, by curl: the header traceparent puts them into the caller's
// trace, and a wait leads to the holder's as any other does.
func TestTraceOfPlainRequests(t *testing.T) {
	r := newReceiver(t)
	c, at := tracedCluster(t, r)
	acquire := func(a *agent, owner, trace string) *curl {
		return a.startCurl("/locks/acquire", "--header", "traceparent: 00-"+trace+"-b7ad6b7169203331-01",
			"--data", `{"key":"plain","owner":"`+owner+`","ttl":"30s","wait":"20s"}`)
	}
	holders, waiters := strings.Repeat("a", 32), strings.Repeat("b", 32)
	first := acquire(at.voters[0], "one", holders).answer(t).is(t, 200, "")
	waiting := acquire(at.voters[1], "two", waiters)
	c.waiters("plain", 1)
	at.leader.post("release", `{"key":"plain","owner":"one"}`).is(t, 200, "")
	second := waiting.answer(t).is(t, 200, "")
	if second.Lock.Version <= first.Lock.Version {
		t.Errorf("version %d after %d", second.Lock.Version, first.Lock.Version)
	}
	const request = "POST /locks/acquire("
	want := map[string]string{
		holders: request + commitShape + ")",
		// The grant is learned by asking again.
		waiters: request + commitShape + " wait(" + commitShape + "))",
	}
	until(t, formTime, "every span is here", func() error {
		var errs []error
		for trace, shape := range want {
			if got := r.within(trace).shape(); got != shape {
				errs = append(errs, fmt.Errorf("trace %s is %s, want %s", trace, got, shape))
			}
		}
		return errors.Join(errs...)
	})
	r.keep(t, r.within(holders), r.within(waiters))
	leadsTo(t, r.within(waiters).find("wait"), r.within(holders).find("forward"), "")
}

// madeBy checks that each process made its own part, in one trace, and that
// each span is within its parent: all clocks are one host's.
func madeBy(t *testing.T, n *node, application, agent, leader string) {
	t.Helper()
	by := map[string]string{"work": application, "serve": agent, "forward": agent, "wait": agent}
	var look func(n *node)
	look = func(x *node) {
		want, known := by[x.Name]
		switch {
		case strings.HasPrefix(x.Name, "raftlock."):
			want = application
		case !known:
			want = leader
		}
		if x.process != want || !slices.Equal(x.TraceId, n.TraceId) {
			t.Errorf("%s of %s is of trace %x, want %s's of %x", x.Name, x.process, x.TraceId, want, n.TraceId)
		}
		for _, b := range x.below {
			if b.began() < x.began() {
				t.Errorf("%s began %v before its parent %s", b.Name, x.began()-b.began(), x.Name)
			}
			look(b)
		}
	}
	look(n)
}

// leadsTo checks the wait's link to the holder's trace, and what it says of it.
func leadsTo(t *testing.T, wait, holders *node, agent string) {
	t.Helper()
	if len(wait.Links) != 1 || len(wait.Events) != 1 || wait.Events[0].Name != "granted" {
		t.Fatalf("the wait has links %v and events %v", wait.Links, wait.Events)
	}
	link := wait.Links[0]
	if !slices.Equal(link.TraceId, holders.TraceId) || !slices.Equal(link.SpanId, holders.SpanId) {
		t.Errorf("the wait leads to span %x of trace %x, the holder's is %x of %x", link.SpanId, link.TraceId, holders.SpanId, holders.TraceId)
	}
	if got := valueOf(link.Attributes, "raftlock.holder.agent"); got != agent {
		t.Errorf("the holder's agent is %q, want %s", got, agent)
	}
}

// keep prints the traces, and writes them to a file that viewers open.
func (r *receiver) keep(t *testing.T, traces ...*node) {
	t.Helper()
	all := r.nodes()
	for _, n := range traces {
		t.Logf("%s's %s", n.process, n.print(all))
	}
	text, err := r.json(traces...)
	must(t, err)
	file := os.Getenv("RAFTLOCK_TRACE")
	if file == "" {
		file = runPath("trace.json")
	}
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, text, 0o600))
	t.Logf("the same as OTLP JSON, which Jaeger's search page opens, %d bytes: %s", len(text), file)
}
