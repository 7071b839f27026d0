package telemetry

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Instruments are the metrics of one agent. All methods are safe on nil, from
// any goroutine, and with mutexes held: they neither block nor call back.
type Instruments struct {
	acquires labelled
	releases labelled
	renewals metric.Int64Counter

	acquire, wait, hold timed
	renew, commit       metric.Float64Histogram

	rpcs    metric.Int64Counter
	rpcTook metric.Float64Histogram
	calls   calls

	state observed
}

// NewInstruments makes every metric of the table. An error is a mistake in the
// table, or the meter's.
func NewInstruments(m metric.Meter) (*Instruments, error) {
	b := builder{meter: m}
	i := &Instruments{
		acquires: b.labelled(acquireTotal),
		releases: b.labelled(releaseTotal),
		renewals: b.counter(renewTotal),
		acquire:  b.timed(acquireSeconds, quickBounds),
		wait:     b.timed(waitSeconds, slowBounds),
		hold:     b.timed(holdSeconds, slowBounds),
		renew:    b.histogram(renewSeconds, quickBounds),
		commit:   b.histogram(commitSeconds, quickBounds),
		rpcs:     b.counter(rpcTotal),
		rpcTook:  b.histogram(rpcSeconds, quickBounds),
	}
	i.renewals.Add(none, 0) // it is there from the start
	i.state = b.observed()
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	return i, nil
}

// none is the context of measurements that belong to no call.
var none = context.Background()

// Acquired counts an acquire that came out: Granted, Held, Cancelled, Refused,
// Ended or Failed.
func (i *Instruments) Acquired(outcome string) {
	if i != nil {
		i.acquires.add(outcome)
	}
}

// AcquireAnswered tells how long an acquire's first answer took. Its outcome is
// one of Acquired's, or Queued.
func (i *Instruments) AcquireAnswered(outcome string, took time.Duration) {
	if i != nil {
		i.acquire.record(outcome, took)
	}
}

// Waited tells how long an acquire was queued until it was Granted, Cancelled,
// Ended or Failed.
func (i *Instruments) Waited(outcome string, took time.Duration) {
	if i != nil {
		i.wait.record(outcome, took)
	}
}

// Released counts a hold that ended: Released, Lost, Revoked or SessionEnded.
func (i *Instruments) Released(how string) {
	if i != nil {
		i.releases.add(how)
	}
}

// HeldFor tells how long a hold was held that ended.
func (i *Instruments) HeldFor(how string, took time.Duration) {
	if i != nil {
		i.hold.record(how, took)
	}
}

// Renewed counts renewals that moved a hold's deadline: all of one heartbeat's
// at once.
func (i *Instruments) Renewed(sessions int) {
	if i != nil && sessions > 0 {
		i.renewals.Add(none, int64(sessions))
	}
}

// BeatAnswered tells how long a heartbeat's answer took.
func (i *Instruments) BeatAnswered(took time.Duration) {
	if i != nil {
		i.renew.Record(none, took.Seconds())
	}
}

// Committed tells how long a command took from its proposal to being applied.
func (i *Instruments) Committed(took time.Duration) {
	if i != nil {
		i.commit.Record(none, took.Seconds())
	}
}

// Called counts a call that ended. rpc is a method or a route's pattern, never
// a path that a caller made; code the name of a gRPC code or an HTTP status.
func (i *Instruments) Called(ctx context.Context, rpc, code string, took time.Duration) {
	if i == nil {
		return
	}
	o := i.calls.of(rpc, code)
	i.rpcs.Add(ctx, 1, o.add...)
	i.rpcTook.Record(ctx, took.Seconds(), o.record...)
}

// Answered counts a request on a session's stream as a call of its own: acquire,
// release or set_ttl, with a reason of the API for its code.
func (i *Instruments) Answered(request, reason string, took time.Duration) {
	switch request {
	case "acquire":
		i.Called(none, sessionAcquire, reason, took)
	case "release":
		i.Called(none, sessionRelease, reason, took)
	case "set_ttl":
		i.Called(none, sessionSetTTL, reason, took)
	}
}

// Requests on a session's stream, as the label rpc has them.
const (
	sessionAcquire = "Session/Acquire"
	sessionRelease = "Session/Release"
	sessionSetTTL  = "Session/SetTTL"
)

// calls are the options of each rpc and code that was seen: bounded, as they are.
type calls struct{ seen sync.Map }

type callKey struct{ rpc, code string }

type callOptions struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

func (c *calls) of(rpc, code string) *callOptions {
	k := callKey{rpc, code}
	if o, ok := c.seen.Load(k); ok {
		return o.(*callOptions)
	}
	set := metric.WithAttributeSet(attribute.NewSet(attribute.String("rpc", rpc), attribute.String("code", code)))
	o, _ := c.seen.LoadOrStore(k, &callOptions{[]metric.AddOption{set}, []metric.RecordOption{set}})
	return o.(*callOptions)
}

// labelled is a counter with one label, its options made once.
type labelled struct {
	counter metric.Int64Counter
	options map[string][]metric.AddOption
}

// add counts one; a value that the table does not have is no label.
func (l labelled) add(value string) {
	if o, ok := l.options[value]; ok {
		l.counter.Add(none, 1, o...)
	}
}

// timed is a histogram of seconds with one label.
type timed struct {
	histogram metric.Float64Histogram
	options   map[string][]metric.RecordOption
}

func (t timed) record(value string, took time.Duration) {
	if o, ok := t.options[value]; ok {
		t.histogram.Record(none, took.Seconds(), o...)
	}
}

// builder makes instruments by the table and keeps what went wrong.
type builder struct {
	meter metric.Meter
	errs  []error
}

func (b *builder) note(err error) {
	if err != nil {
		b.errs = append(b.errs, err)
	}
}

func (b *builder) counter(name string) metric.Int64Counter {
	c, err := b.meter.Int64Counter(name, metric.WithDescription(row(name).Help))
	b.note(err)
	return c
}

func (b *builder) histogram(name string, bounds []float64) metric.Float64Histogram {
	h, err := b.meter.Float64Histogram(name, metric.WithDescription(row(name).Help), metric.WithUnit(row(name).Unit),
		metric.WithExplicitBucketBoundaries(bounds...))
	b.note(err)
	return h
}

func (b *builder) labelled(name string) labelled {
	l := labelled{counter: b.counter(name), options: make(map[string][]metric.AddOption)}
	for value, set := range sets(row(name)) {
		l.options[value] = []metric.AddOption{metric.WithAttributeSet(set)}
		l.counter.Add(none, 0, l.options[value]...) // every series is there from the start
	}
	return l
}

func (b *builder) timed(name string, bounds []float64) timed {
	t := timed{histogram: b.histogram(name, bounds), options: make(map[string][]metric.RecordOption)}
	for value, set := range sets(row(name)) {
		t.options[value] = []metric.RecordOption{metric.WithAttributeSet(set)}
	}
	return t
}

// sets are the attribute sets of a metric with one label, by its values.
func sets(m Metric) map[string]attribute.Set {
	out := make(map[string]attribute.Set)
	for _, value := range m.Labels[0].Values {
		out[value] = attribute.NewSet(attribute.String(m.Labels[0].Name, value))
	}
	return out
}
