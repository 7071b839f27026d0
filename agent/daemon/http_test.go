package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// What a handler asks of the agent must be there until it has its answer.
func TestHTTPWaitsForItsHandlers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	s := serverOf(l, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	}), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ran, answered := make(chan error), make(chan struct{})
	go func() { ran <- s.run(ctx) }()
	go func() {
		defer close(answered)
		if resp, err := http.Get("http://" + l.Addr().String()); err == nil {
			resp.Body.Close()
		}
	}()
	<-entered
	cancel()
	<-answered // it was cut
	select {
	case err := <-ran:
		t.Fatalf("run returned before its handler: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if err := <-ran; err != nil {
		t.Error(err)
	}
}
