package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// told are the lines of a log, in order; what finds no place is dropped.
type told chan string

func (c told) Write(line []byte) (int, error) {
	select {
	case c <- string(line):
	default:
	}
	return len(line), nil
}

// until reads up to the line that has all the words.
func (c told) until(t *testing.T, ctx context.Context, words ...string) string {
	t.Helper()
	for {
		select {
		case line := <-c:
			missing := 0
			for _, w := range words {
				if !strings.Contains(line, w) {
					missing++
				}
			}
			if missing == 0 {
				return line
			}
		case <-ctx.Done():
			t.Fatalf("nothing was told of %q", words)
		}
	}
}

// What an agent says of itself: where HTTP is, that locks can be had once they
// can, and that a plain hold ran out, whose and of what.
func TestWhatTheLogTells(t *testing.T) {
	o, ctx, log := alone(t), within(t), make(told, 10_000)
	o.HTTP = "127.0.0.1:0"
	o.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Reached = func() { _, _ = log.Write([]byte("REACHED")) }
	stop := start(t, o)
	defer stop()

	line := log.until(t, ctx, "level=INFO", "serving HTTP", "writes=false")
	at := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(line)
	if at == nil {
		t.Fatal(line)
	}
	if got := ask(t, ctx, http.DefaultClient, http.MethodGet, "http://"+at[1]+"/healthz", ""); got != http.StatusOK {
		t.Errorf("status %d where HTTP is said to be", got)
	}

	log.until(t, ctx, "msg=reach", "reach=OK")
	log.until(t, ctx, "REACHED")

	dialer := &net.Dialer{}
	app := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", o.Socket)
	}}}
	defer app.CloseIdleConnections()
	if got := ask(t, ctx, app, http.MethodPost, "http://localhost/locks/acquire", `{"key":"l","owner":"o","ttl":"1s"}`); got != http.StatusOK {
		t.Fatalf("status %d to an acquire", got)
	}
	log.until(t, ctx, "level=DEBUG", "plain hold ran out", "lock=l", "owner=o")
}

func ask(t *testing.T, ctx context.Context, c *http.Client, method, url, body string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Close = true
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
