package telemetry

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// otherRoute stands for requests that no pattern fits: their paths are the
// caller's, and no label.
const otherRoute = "other"

// unaryServer counts and times the unary calls of a gRPC server.
func (i *Instruments) unaryServer(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	begin := time.Now()
	out, err := next(ctx, req)
	i.calledGRPC(ctx, info.FullMethod, err, time.Since(begin))
	return out, err
}

// streamServer counts and times the streams of a gRPC server, when they end.
func (i *Instruments) streamServer(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	begin := time.Now()
	err := next(srv, stream)
	i.calledGRPC(stream.Context(), info.FullMethod, err, time.Since(begin))
	return err
}

func (i *Instruments) calledGRPC(ctx context.Context, method string, err error, took time.Duration) {
	i.Called(ctx, strings.TrimPrefix(method, "/"), status.Code(err).String(), took)
}

// HTTP counts and times the requests that mux serves, each under the pattern
// that fitted it. Between it and mux nothing may copy the request: the pattern
// is noted in it.
func (i *Instruments) HTTP(mux http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		mux.ServeHTTP(seen, r)
		i.Called(r.Context(), routeOf(r), strconv.Itoa(seen.status), time.Since(begin))
	})
}

// routeOf is the pattern that fitted a request, once it was served.
func routeOf(r *http.Request) string { return cmp.Or(r.Pattern, otherRoute) }

// statusWriter remembers the status that was answered.
type statusWriter struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (w *statusWriter) WriteHeader(status int) {
	if !w.wrote && status >= http.StatusOK { // those below are no answer yet
		w.status, w.wrote = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach what it controls.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
