package link

import (
	"context"
	"fmt"
	"net"
	"testing"
)

// BenchmarkFrames measures frames that go up one link over loopback TCP and are
// answered, one batch after the other, beside single questions on the same
// port: what a frame saves over a call.
func BenchmarkFrames(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, listener, &handler{link: answerBeats}, ServerConfig{}) }()
	c := NewClient(ClientConfig{Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}})
	defer func() {
		c.Close()
		cancel()
		<-done
	}()
	addr := listener.Addr().String()
	b.Run("ask", func(b *testing.B) {
		for b.Loop() {
			if _, err := c.Ask(ctx, addr, question()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "asks/s")
	})
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) { benchLink(b, c, addr, batch) })
	}
}

func answerBeats(conn DownConn) {
	for {
		frames, err := conn.Recv()
		if err != nil {
			return
		}
		answers := make([]*Down, len(frames))
		for i, f := range frames {
			answers[i] = beatAnswer(f.GetBeat().GetNumber())
		}
		if conn.Send(answers) != nil {
			return
		}
	}
}

func benchLink(b *testing.B, c *Client, addr string, batch int) {
	u, _, err := c.Dial(context.Background(), addr, hello())
	if err != nil {
		b.Fatal(err)
	}
	defer u.Close()
	frames := make([]*Up, batch)
	for i := range frames {
		frames[i] = beat(uint64(i))
	}
	for b.Loop() {
		if err := u.Send(frames); err != nil {
			b.Fatal(err)
		}
		for got := 0; got < batch; {
			answers, err := u.Recv()
			if err != nil {
				b.Fatal(err)
			}
			got += len(answers)
		}
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "frames/s")
}
