package processes

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// otlpEnv is the variable that says where spans go, to agents and applications.
const otlpEnv = "OTEL_EXPORTER_OTLP_ENDPOINT"

// receiver takes spans over OTLP, as any collector does.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	endpoint string

	mu   sync.Mutex // guards all
	took []*otlp.ResourceSpans
}

func newReceiver(t testing.TB) *receiver {
	t.Helper()
	var l net.Listener
	var err error
	home.do(func() { l, err = net.Listen("tcp", "127.0.0.1:0") })
	must(t, err)
	r := &receiver{endpoint: "http://" + l.Addr().String()}
	g := grpc.NewServer()
	collector.RegisterTraceServiceServer(g, r)
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-served })
	return r
}

// Export implements the collector's service.
func (r *receiver) Export(_ context.Context, q *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took = append(r.took, q.ResourceSpans...)
	return &collector.ExportTraceServiceResponse{}, nil
}

// told takes the spans of an application that sends none itself.
func (r *receiver) told(t testing.TB, service string, spans []toldSpan) {
	t.Helper()
	id := func(text string) []byte {
		out, err := hex.DecodeString(text)
		must(t, err)
		return out
	}
	scope := &otlp.ScopeSpans{}
	for _, s := range spans {
		scope.Spans = append(scope.Spans, &otlp.Span{
			Name: s.Name, TraceId: id(s.Trace), SpanId: id(s.Span), ParentSpanId: id(s.Parent),
			StartTimeUnixNano: s.Began, EndTimeUnixNano: s.Ended,
		})
	}
	name := &common.KeyValue{Key: "service.name", Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: service}}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took = append(r.took, &otlp.ResourceSpans{
		Resource: &resource.Resource{Attributes: []*common.KeyValue{name}}, ScopeSpans: []*otlp.ScopeSpans{scope},
	})
}

// environment makes a process send there, soon.
func (r *receiver) environment(service string) []string {
	e := []string{otlpEnv + "=" + r.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_BSP_SCHEDULE_DELAY=50"}
	if service != "" {
		e = append(e, "OTEL_SERVICE_NAME="+service)
	}
	return e
}

// node is a span as it came, with those below it.
type node struct {
	*otlp.Span
	process string // who made it: an agent's name, or a service's
	below   []*node
}

func (n *node) began() time.Duration { return time.Duration(n.StartTimeUnixNano) }
func (n *node) took() time.Duration  { return time.Duration(n.EndTimeUnixNano - n.StartTimeUnixNano) }

// nodes are all spans received, by their id.
func (r *receiver) nodes() map[string]*node {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]*node{}
	for _, from := range r.took {
		process := valueOf(from.Resource.GetAttributes(), "service.instance.id")
		if process == "" {
			process = valueOf(from.Resource.GetAttributes(), "service.name")
		}
		for _, scope := range from.ScopeSpans {
			for _, s := range scope.Spans {
				out[string(s.SpanId)] = &node{Span: s, process: process}
			}
		}
	}
	return out
}

// root is the tree that begins with a process's span of that name; nil while it
// has not come.
func (r *receiver) root(process, name string) *node {
	return r.top(func(n *node) bool { return n.process == process && n.Name == name && len(n.ParentSpanId) == 0 })
}

// within is the tree of a trace that began with who sends no spans; nil while it
// has not come.
func (r *receiver) within(trace string) *node {
	return r.top(func(n *node) bool { return hex.EncodeToString(n.TraceId) == trace })
}

// top is the tree whose top is the one that is meant, among those whose parents
// were not received.
func (r *receiver) top(meant func(*node) bool) (top *node) {
	all := r.nodes()
	for _, n := range all {
		switch parent := all[string(n.ParentSpanId)]; {
		case parent != nil && slices.Equal(parent.TraceId, n.TraceId):
			parent.below = append(parent.below, n)
		case meant(n):
			top = n
		}
	}
	for _, n := range all {
		slices.SortFunc(n.below, func(a, b *node) int { return int(a.began() - b.began()) })
	}
	return top
}

// shape is a tree's names: "serve(forward wait)".
func (n *node) shape() string {
	if n == nil {
		return "nothing"
	}
	var below []string
	for _, b := range n.below {
		below = append(below, b.shape())
	}
	if below == nil {
		return n.Name
	}
	return n.Name + "(" + strings.Join(below, " ") + ")"
}

// find is the first span of that name at or below n, in the order of time.
func (n *node) find(name string) *node {
	if n == nil || n.Name == name {
		return n
	}
	for _, b := range n.below {
		if found := b.find(name); found != nil {
			return found
		}
	}
	return nil
}

// print writes a tree, a line for each span: from when, how long, who made it.
func (n *node) print(all map[string]*node) string {
	var out strings.Builder
	fmt.Fprintf(&out, "trace %x\n%10s %10s  %-8s span\n", n.TraceId, "from", "took", "by")
	var line func(n *node, root time.Duration, margin string)
	line = func(x *node, root time.Duration, margin string) {
		fmt.Fprintf(&out, "%10s %10s  %-8s %s%s%s\n", millis(x.began()-root), millis(x.took()), x.process, margin, x.Name, x.words())
		for _, e := range x.Events {
			fmt.Fprintf(&out, "%10s %10s  %-8s %s  * %s%s\n", millis(time.Duration(e.TimeUnixNano)-root), "", "", margin, e.Name, words(e.Attributes))
		}
		for _, l := range x.Links {
			to := "of a span not received"
			if far := all[string(l.SpanId)]; far != nil {
				to = fmt.Sprintf("%s of %s", far.Name, far.process)
			}
			fmt.Fprintf(&out, "%10s %10s  %-8s %s  -> %s, trace %x%s\n", "", "", "", margin, to, l.TraceId, words(l.Attributes))
		}
		for _, b := range x.below {
			line(b, root, margin+"  ")
		}
	}
	line(n, n.began(), "")
	return out.String()
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2fms", d.Seconds()*1000) }

// words are what the attributes say that reads well in a line.
func words(attributes []*common.KeyValue) string {
	var out strings.Builder
	for _, a := range attributes {
		name, ours := strings.CutPrefix(a.Key, "raftlock.")
		if ours && name != "session" && name != "lock" && name != "leader" && name != "term" {
			fmt.Fprintf(&out, " %s=%s", name, textOf(a.Value))
		}
	}
	return out.String()
}

func (n *node) words() string { return words(n.Attributes) }

func valueOf(attributes []*common.KeyValue, key string) string {
	for _, a := range attributes {
		if a.Key == key {
			return textOf(a.Value)
		}
	}
	return ""
}

func textOf(v *common.AnyValue) string {
	switch x := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return x.StringValue
	case *common.AnyValue_IntValue:
		return fmt.Sprint(x.IntValue)
	case *common.AnyValue_BoolValue:
		return fmt.Sprint(x.BoolValue)
	}
	return fmt.Sprint(v)
}

// json is what came of some traces, in OTLP's JSON: protobuf's but for ids, which
// are in hexadecimal digits, and enums, which are numbers.
func (r *receiver) json(traces ...*node) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseEnumNumbers: true}.Marshal(r.of(traces))
	if err != nil {
		return nil, err
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	if err := hexIDs(tree); err != nil {
		return nil, err
	}
	return json.MarshalIndent(tree, "", " ")
}

// of is what came of some traces.
func (r *receiver) of(traces []*node) *otlp.TracesData {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &otlp.TracesData{}
	for _, from := range r.took {
		from = proto.CloneOf(from)
		for _, scope := range from.ScopeSpans {
			scope.Spans = slices.DeleteFunc(scope.Spans, func(s *otlp.Span) bool {
				return !slices.ContainsFunc(traces, func(n *node) bool { return slices.Equal(n.TraceId, s.TraceId) })
			})
		}
		from.ScopeSpans = slices.DeleteFunc(from.ScopeSpans, func(s *otlp.ScopeSpans) bool { return len(s.Spans) == 0 })
		if len(from.ScopeSpans) > 0 {
			out.ResourceSpans = append(out.ResourceSpans, from)
		}
	}
	return out
}

func hexIDs(tree any) error {
	switch x := tree.(type) {
	case []any:
		for _, below := range x {
			if err := hexIDs(below); err != nil {
				return err
			}
		}
	case map[string]any:
		for key, below := range x {
			text, isText := below.(string)
			if isText && slices.Contains([]string{"traceId", "spanId", "parentSpanId"}, key) {
				id, err := base64.StdEncoding.DecodeString(text)
				if err != nil {
					return err
				}
				x[key] = hex.EncodeToString(id)
				continue
			}
			if err := hexIDs(below); err != nil {
				return err
			}
		}
	}
	return nil
}

// tracing is an application's own: a span goes out when it ends, and none is
// made where no variable asks for it.
func tracing(getenv func(string) string) (*sdktrace.TracerProvider, error) {
	if getenv(otlpEnv) == "" {
		return sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())), nil
	}
	out, err := otlptracegrpc.New(context.Background())
	if err != nil {
		return nil, err
	}
	return sdktrace.NewTracerProvider(sdktrace.WithSyncer(out)), nil
}
