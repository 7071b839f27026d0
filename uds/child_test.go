package uds

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Tests that need another process start this binary again, as one of children.
// A child ends at the latest when its standard input does.
const childEnv = "UDS_TEST_CHILD"

var children = map[string]func(path string){
	"connect": connect,
	"twice":   func(path string) { mustDial(path); connect(path) },
	"fork":    fork,
	"exec":    executing,
	"agent":   agent,
	"stream":  stream,
	"panic":   panicking,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		children[name](os.Args[1])
		return
	}
	os.Exit(m.Run())
}

func untilInputEnds() { _, _ = io.Copy(io.Discard, os.Stdin) }

func mustDial(path string) *net.UnixConn {
	conn, err := net.Dial("unix", path)
	if err != nil {
		panic(err)
	}
	return conn.(*net.UnixConn)
}

func connect(path string) {
	defer mustDial(path).Close()
	fmt.Println("connected")
	untilInputEnds()
}

// fork leaves its connection to a child, which then also connects by itself.
func fork(path string) {
	conn := mustDial(path)
	fmt.Println("connected")
	file, err := conn.File()
	if err != nil {
		panic(err)
	}
	command := exec.Command(os.Args[0], path)
	command.Env = append(os.Environ(), childEnv+"=connect")
	command.Stdin, command.ExtraFiles = os.Stdin, []*os.File{file}
	if err := command.Start(); err != nil {
		panic(err)
	}
	untilInputEnds()
}

// executing connects, and again as another program of the same process.
func executing(path string) {
	mustDial(path)
	if err := syscall.Exec(os.Args[0], []string{os.Args[0], path}, append(os.Environ(), childEnv+"=connect")); err != nil {
		panic(err)
	}
}

// seen is what agent tells.
type seen struct {
	PID                               int32
	StartTicks                        uint64
	Watchable, InitialNamespace, Same bool
}

// agent accepts two connections, tells of them in a line, and waits for the exit
// of the first one's process.
func agent(path string) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	watching, err := newExits()
	if err != nil {
		panic(err)
	}
	go func() { _ = watching.run() }()
	fmt.Println("listening")
	kernel := NewKernel()
	var peers []*Peer
	for range 2 {
		conn, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		p, err := kernel.peerOf(conn.(*net.UnixConn), watching)
		if err != nil {
			panic(err)
		}
		peers = append(peers, p)
	}
	p := peers[0]
	_ = json.NewEncoder(os.Stdout).Encode(seen{
		PID: p.PID, StartTicks: p.StartTicks, Watchable: p.exit != nil,
		InitialNamespace: p.InitialNamespace, Same: p.Same(peers[1]),
	})
	gone, stop := p.Watch()
	defer stop()
	<-gone
	fmt.Println("exited")
}

// stream makes one call of the probe, closes its connection, and says so.
func stream(path string) {
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	s, err := conn.NewStream(context.Background(), &probeDesc.Streams[0], "/test.Probe/Call")
	if err != nil {
		panic(err)
	}
	if err := s.RecvMsg(&healthpb.HealthCheckRequest{}); err != nil {
		panic(err)
	}
	_ = conn.Close()
	fmt.Println("closed")
	untilInputEnds()
}

// panicking serves HTTP with a handler that panics.
func panicking(path string) {
	s, err := Listen(Config{Path: path, HTTP: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic("broken invariant")
	})})
	if err != nil {
		panic(err)
	}
	fmt.Println("listening")
	_ = s.Run(context.Background())
}

// child is a started child. It is killed and reaped by the test's end.
type child struct {
	*exec.Cmd
	t      testing.TB
	output *json.Decoder // of JSON lines, where it writes some
	lines  io.Reader
	stderr strings.Builder
}

func startChild(t testing.TB, name, path string, change ...func(*exec.Cmd)) *child {
	t.Helper()
	c := &child{Cmd: exec.Command(os.Args[0], path), t: t}
	c.Env = append(os.Environ(), childEnv+"="+name)
	c.Stderr = &c.stderr
	for _, f := range change {
		f(c.Cmd)
	}
	input, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.lines, err = c.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	c.output = json.NewDecoder(c.lines)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		c.kill()
		_ = c.Wait()
		if t.Failed() && c.stderr.Len() > 0 {
			t.Logf("%s: %s", name, c.stderr.String())
		}
	})
	return c
}

// says waits for a word on a line of its own.
func (c *child) says(word string) {
	c.t.Helper()
	buffer := make([]byte, len(word)+1)
	if _, err := io.ReadFull(c.lines, buffer); err != nil || string(buffer) != word+"\n" {
		c.t.Fatalf("the child says %q (%v), not %q: %s", buffer, err, word, c.stderr.String())
	}
}

func (c *child) kill() { _ = c.Process.Kill() }
