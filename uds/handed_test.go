package uds

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// handedIn is a listener as a service manager keeps it: open while one server
// after another serves it.
func handedIn(t *testing.T) (path string, next func() net.Listener) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return path, func() net.Listener {
		f, err := l.(*net.UnixListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		copied, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		return copied
	}
}

// onceHTTP connects, asks once and wants an answer, whatever it says.
func onceHTTP(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	all, err := io.ReadAll(c)
	if err == nil && !strings.HasPrefix(string(all), "HTTP/1.1 ") {
		err = fmt.Errorf("answered %q", all)
	}
	return err
}

// onceGRPC calls once, on a connection of its own, and waits for no better time.
func onceGRPC(path string) error {
	c, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = healthpb.NewHealthClient(c).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// However often the server is replaced: whoever connects is served, by the one
// that was there or by the next.
func TestReplacedServersTurnNobodyAway(t *testing.T) {
	path, next := handedIn(t)
	over := make(chan struct{})
	var clients sync.WaitGroup
	var mu sync.Mutex
	served := map[string]int{}
	for name, ask := range map[string]func(string) error{"HTTP": onceHTTP, "gRPC": onceGRPC} {
		for range 4 {
			clients.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
					}
					err := ask(path)
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
					mu.Lock()
					served[name]++
					mu.Unlock()
				}
			})
		}
	}
	for range 25 {
		_, stop := start(t, Config{Listener: next()})
		<-time.After(10 * time.Millisecond) // it serves for a while
		stop()
	}
	close(over)
	_, stop := start(t, Config{Listener: next()}) // for who still waits
	clients.Wait()
	stop()
	if served["HTTP"] == 0 || served["gRPC"] == 0 {
		t.Errorf("too few were there: %v", served)
	}
	t.Logf("served while 25 servers were replaced: %v", served)
}
