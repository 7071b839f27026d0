package sim

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// commitStory is what one proposal looks like from the agent that asks on.
const commitStory = "forward(commit(queue append replicate apply))"

// traced is a story whose spans are recorded. At its end, when every process is
// gone, all of them have ended, once.
func traced(t *testing.T, f func(*Cluster, *tracetest.SpanRecorder), opts ...sdktrace.TracerProviderOption) {
	t.Helper()
	r := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(append(opts, sdktrace.WithSpanProcessor(r))...)
	story(t, func(c *Cluster) { f(c, r) }, func(cfg *ClusterConfig) { cfg.Traces = p })
	ended := map[trace.SpanID]int{}
	for _, s := range r.Ended() {
		ended[s.SpanContext().SpanID()]++
	}
	for _, s := range r.Started() {
		if n := ended[s.SpanContext().SpanID()]; n != 1 {
			t.Errorf("%s, begun at %v, ended %d times", s.Name(), s.StartTime(), n)
		}
	}
}

// work begins a trace of an application's own.
func work(c *Cluster, name string) (context.Context, trace.Span) {
	return c.cfg.Traces.Tracer("application").Start(context.Background(), name)
}

// lines is the trace that a span is of, as it ended: "work(raftlock.acquire(...))",
// in the order of beginnings.
func lines(r *tracetest.SpanRecorder, of trace.Span) string {
	below := map[trace.SpanID][]sdktrace.ReadOnlySpan{}
	for _, s := range r.Ended() {
		if s.SpanContext().TraceID() == of.SpanContext().TraceID() {
			below[s.Parent().SpanID()] = append(below[s.Parent().SpanID()], s)
		}
	}
	var tell func(trace.SpanID) string
	tell = func(id trace.SpanID) string {
		all := below[id]
		slices.SortStableFunc(all, func(a, b sdktrace.ReadOnlySpan) int {
			return cmp.Compare(a.StartTime().UnixNano(), b.StartTime().UnixNano())
		})
		var out []string
		for _, s := range all {
			text := s.Name()
			if inner := tell(s.SpanContext().SpanID()); inner != "" {
				text += "(" + inner + ")"
			}
			out = append(out, text)
		}
		return strings.Join(out, " ")
	}
	return tell(trace.SpanID{})
}

// waitOf is the wait in a trace.
func waitOf(c *Cluster, r *tracetest.SpanRecorder, of trace.Span) sdktrace.ReadOnlySpan {
	for _, s := range r.Ended() {
		if s.Name() == "wait" && s.SpanContext().TraceID() == of.SpanContext().TraceID() {
			return s
		}
	}
	c.Fatal("no wait in %s", lines(r, of))
	return nil
}

func TestStoryTraceOfAContendedAcquire(t *testing.T) {
	traced(t, func(c *Cluster, r *tracetest.SpanRecorder) {
		a := c.open(c.Forwarders[0], "a", 10*time.Second)
		b := c.open(c.Forwarders[1], "b", 10*time.Second)
		holding, first := work(c, "first")
		h, err := a.Lock(holding, "x")
		c.must("lock", err)
		waiting, second := work(c, "second")
		got := c.queue(waiting, b, "x")
		time.Sleep(time.Minute)
		c.must("unlock", h.Unlock(holding))
		c.take(got, time.Second)
		first.End()
		second.End()

		want := "first(raftlock.acquire(serve(" + commitStory + ")) raftlock.release(serve(" + commitStory + ")))"
		if got := lines(r, first); got != want {
			t.Errorf("the holder's trace is %s", got)
		}
		if got := lines(r, second); got != "second(raftlock.acquire(serve("+commitStory+" wait)))" {
			t.Errorf("the waiter's trace is %s", got)
		}
		wait := waitOf(c, r, second)
		if took := wait.EndTime().Sub(wait.StartTime()); took < 59*time.Second || took > 61*time.Second {
			t.Errorf("the wait took %v", took)
		}
		if l := wait.Links(); len(l) != 1 || l[0].SpanContext.TraceID() != first.SpanContext().TraceID() {
			t.Errorf("the wait has links %v, the holder's trace is %v", l, first.SpanContext().TraceID())
		}
		c.Settled(time.Minute)
	})
}

// The leader dies while one waits, and one more comes after it: the first one's
// wait is one span, that ends with the grant; the second one's has no link, for
// the new leader never heard of the holder's trace, but knows who it is.
func TestStoryTraceOutlivesALeader(t *testing.T) {
	traced(t, func(c *Cluster, r *tracetest.SpanRecorder) {
		const ttl = 30 * time.Second
		a := c.open(c.Forwarders[0], "a", ttl)
		b := c.open(c.Forwarders[1], "b", ttl)
		holding, first := work(c, "first")
		h, err := a.Lock(holding, "x")
		c.must("lock", err)
		waiting, second := work(c, "second")
		gotSecond := c.queue(waiting, b, "x")
		time.Sleep(time.Second) // its answer, which names the holder, is there
		c.Leader().Host.Crash()
		c.WaitLeader(time.Minute)
		waiting, third := work(c, "third")
		gotThird := c.queue(waiting, a, "x")
		c.must("unlock", h.Unlock(holding))
		c.must("unlock", c.take(gotSecond, 10*time.Second).Unlock(context.Background()))
		c.take(gotThird, 10*time.Second)
		for _, s := range []trace.Span{first, second, third} {
			s.End()
		}
		if got := lines(r, second); got != "second(raftlock.acquire(serve("+commitStory+" wait)))" {
			t.Errorf("the trace of who waited through it is %s", got)
		}
		if n := len(waitOf(c, r, second).Links()); n != 1 {
			t.Errorf("the older wait has %d links", n)
		}
		wait := waitOf(c, r, third)
		if n := len(wait.Links()); n != 0 {
			t.Errorf("the younger wait has %d links", n)
		}
		known := slices.ContainsFunc(wait.Attributes(), func(a attribute.KeyValue) bool { return a.Key == "raftlock.holder.agent" })
		if !known {
			t.Errorf("the younger wait says %v", wait.Attributes())
		}
	})
}

// The link breaks with the proposal, or its answer, in it: what was asked goes
// on in the same span.
func TestStoryTraceOverBrokenLinks(t *testing.T) {
	for _, kind := range []string{"link-up/propose/acquire", "link-down/proposed"} {
		t.Run(kind, func(t *testing.T) {
			traced(t, func(c *Cluster, r *tracetest.SpanRecorder) {
				a := c.open(c.Forwarders[0], "a", 30*time.Second)
				lost := 0
				c.W.OnFrame(func(f *Frame) Action {
					if strings.HasPrefix(f.Kind, kind) && (f.To == "f1" || f.From == "f1") && lost == 0 {
						lost++
						return Cut
					}
					return Deliver
				})
				ctx, root := work(c, "work")
				_, err := a.Lock(ctx, "x")
				c.must("lock", err)
				root.End()
				if lost != 1 {
					c.Fatal("no frame was lost")
				}
				got := lines(r, root)
				if !strings.HasPrefix(got, "work(raftlock.acquire(serve(forward(") || strings.Count(got, "forward") != 1 {
					t.Errorf("the trace is %s", got)
				}
			})
		})
	}
}

// Processes die with their spans open: what the others made of it ends.
func TestStoryTraceOfTheDead(t *testing.T) {
	traced(t, func(c *Cluster, r *tracetest.SpanRecorder) {
		a := c.open(c.Forwarders[0], "a", 10*time.Second)
		b := c.open(c.Forwarders[1], "b", 10*time.Second)
		c.lock(a, "x")
		waiting, root := work(c, "work")
		c.queue(waiting, b, "x")
		b.Kill()
		c.Wait(10*time.Second, "nobody waits", func() bool { return c.waiters("x") == 0 })
		time.Sleep(time.Second) // its agent hears of it
		root.End()
		if got := lines(r, root); got != "work(raftlock.acquire(serve("+commitStory+" wait)))" {
			t.Errorf("the trace is %s", got)
		}
	})
}

func TestStoryTraceOfWhatNobodySamples(t *testing.T) {
	traced(t, func(c *Cluster, r *tracetest.SpanRecorder) {
		a := c.open(c.Forwarders[0], "a", 10*time.Second)
		ctx, root := work(c, "work")
		h, err := a.Lock(ctx, "x")
		c.must("lock", err)
		c.must("unlock", h.Unlock(ctx))
		root.End()
		if n := len(r.Started()); n != 0 {
			t.Errorf("%d spans were made", n)
		}
	}, sdktrace.WithSampler(sdktrace.NeverSample()))
}
