package telemetry

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/raftlock/raftlock/telemetry/tracing"
)

// Attributes of HTTP's semantic conventions.
const (
	httpMethod = attribute.Key("http.request.method")
	httpRoute  = attribute.Key("http.route")
	httpStatus = attribute.Key("http.response.status_code")
)

// GRPC are the options that make a gRPC server count its calls, and put the
// unary ones into the traces of who calls. Streams are left out, and so are
// health checks: what lives for days, or says nothing, is no useful span.
func (t *Telemetry) GRPC() []grpc.ServerOption {
	i := t.Instruments()
	options := []grpc.ServerOption{grpc.ChainUnaryInterceptor(i.unaryServer), grpc.ChainStreamInterceptor(i.streamServer)}
	if t == nil || t.traces == nil {
		return append(options, grpc.ChainUnaryInterceptor(handOn))
	}
	return append(options, grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.traces),
		otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()), // Instruments count
		otelgrpc.WithPropagators(propagator()),
		otelgrpc.WithFilter(func(c *stats.RPCTagInfo) bool { return tracedMethod(c.FullMethodName) }),
	)))
}

// tracedMethod: a caller may name any method, and what it names would become a
// span's name before anybody looks whether there is one.
func tracedMethod(name string) bool {
	if !strings.HasPrefix(name, "/raftlock.") {
		return false
	}
	service, method, _ := strings.Cut(name[1:], "/")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	if err != nil {
		return false
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	return ok && string(m.Parent().FullName()) == service && !m.IsStreamingClient() && !m.IsStreamingServer()
}

// handOn makes a caller's trace that of the call, although no span is made here.
func handOn(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if parent := md.Get("traceparent"); len(parent) == 1 {
		state := strings.Join(md.Get("tracestate"), ",")
		ctx = trace.ContextWithRemoteSpanContext(ctx, tracing.Parse(parent[0], state))
	}
	return next(ctx, req)
}

// Traced puts the requests that next serves into the traces of who asks, those
// to be traced being told by their paths. Danger: it copies the request, so it
// goes outside of Instruments.HTTP, which reads the pattern that was noted in
// the copy.
func (t *Telemetry) Traced(next http.Handler, these func(path string) bool) http.Handler {
	tracer := tracing.OrNone(tracing.Of(t.TracerProvider()))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !these(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		ctx := propagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := tracer.Start(ctx, "HTTP", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		if !tracing.Wanted(span) {
			next.ServeHTTP(w, r)
			return
		}
		r = r.WithContext(ctx)
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		if span.IsRecording() {
			served(span, r, seen.status)
		}
	})
}

// served says of a span what is known when the request was answered.
func served(span trace.Span, r *http.Request, status int) {
	route := routeOf(r)
	span.SetName(route)
	span.SetAttributes(httpMethod.String(methodOf(r)), httpRoute.String(route), httpStatus.Int(status))
	if status >= http.StatusBadRequest {
		span.SetStatus(codes.Error, http.StatusText(status))
	}
}

// otherMethod is what the semantic conventions call a method that nobody knows.
const otherMethod = "_OTHER"

// methodOf is the method of a request if it is one of HTTP's: any other is as
// long as its caller likes.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return r.Method
	}
	return otherMethod
}
