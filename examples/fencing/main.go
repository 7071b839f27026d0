// Command fencing shows why a lock alone protects nothing, and what does.
//
// A worker takes the lock, looks at it once more, and is stopped before it
// writes (SIGSTOP here; a long garbage collection, a swapped-out page or a moved
// virtual machine elsewhere). Its lease runs out, a second worker gets the lock
// and writes. Then the first goes on, and its write arrives late. No lock can
// call that write back; the store refuses it, since its token is lower than the
// highest it has seen. The example fails (exit status 1) if the late write won.
//
//	go run ./examples/fencing
//	go run ./examples/fencing --without-guard    # and so it fails
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	raftlock "github.com/raftlock/raftlock/sdk/go"
	"github.com/raftlock/raftlock/sdk/go/guard"
)

const (
	lockName = "examples/report"
	// ttl is short, so that the stopped worker's lease soon runs out; in earnest
	// it is longer than an election (2 to 3 s).
	ttl      = time.Second
	patience = 30 * time.Second
)

func main() {
	log.SetFlags(0)
	withoutGuard := flag.Bool("without-guard", false, "leave the guard out, to see what it is for")
	store := flag.String("store", "", "be the first worker, and write to this address (the example starts itself so)")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if *store != "" {
		if err := firstWorker(ctx, *store); err != nil {
			log.Fatal("first worker: ", err)
		}
		return
	}
	if err := story(ctx, *withoutGuard); err != nil {
		log.Fatal("FAILED: ", err)
	}
	fmt.Println("ok: the late write was refused, the report is the second worker's")
}

// A reportStore keeps one report. It stands for any system that many hosts
// write to; the guard is the only thing in it that knows of tokens.
type reportStore struct {
	tokens *guard.Guard // nil: whoever writes last wins

	mu     sync.Mutex
	report string
}

func (s *reportStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, err := strconv.ParseUint(r.Header.Get("Raftlock-Token"), 10, 64)
	if err != nil {
		http.Error(w, "a write needs its lock's token", http.StatusPreconditionRequired)
		return
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if s.tokens == nil {
		s.set(string(text))
		return
	}
	// The write is inside: between a check and a write, a newer holder may come.
	err = s.tokens.Do(r.Context(), lockName, token, func(context.Context) error {
		s.set(string(text))
		return nil
	})
	switch {
	case errors.Is(err, guard.ErrStale):
		http.Error(w, err.Error(), http.StatusPreconditionFailed)
	case err != nil:
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	}
}

func (s *reportStore) set(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report = text
}

func (s *reportStore) get() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report
}

// firstWorker does all that a careful client can do, and is not safe by that.
func firstWorker(ctx context.Context, store string) error {
	session, err := raftlock.NewSession(ctx, raftlock.WithTTL(ttl))
	if err != nil {
		return err
	}
	defer func() { _ = session.Close(ctx) }()
	lock, err := session.Lock(ctx, lockName)
	if err != nil {
		return err
	}
	token, err := lock.Token() // held: the clock was looked at, just now
	if err != nil {
		return err
	}
	fmt.Println("holds", token)
	// Here it is stopped. What it reads is the example's word to go on.
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	status, err := put(ctx, store, "by the first worker", token)
	if err != nil {
		return err
	}
	fmt.Println("wrote", status)
	return nil
}

func put(ctx context.Context, store, text string, token uint64) (status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+store+"/report", strings.NewReader(text))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Raftlock-Token", strconv.FormatUint(token, 10))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// story is the store and the second worker, and does to the first what a host
// may do to any process.
func story(ctx context.Context, withoutGuard bool) error {
	store := &reportStore{}
	if !withoutGuard {
		store.tokens = guard.New() // guard.Open remembers over restarts of the store
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: store, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	defer func() { _ = server.Close() }()

	first, err := startFirst(ctx, l.Addr().String())
	if err != nil {
		return err
	}
	defer first.end()
	var token uint64
	if err := first.hear("holds", &token); err != nil {
		return err
	}
	fmt.Printf("the first worker holds with token %d, and is stopped before it writes\n", token)
	if err := first.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if err := secondWorker(ctx, l.Addr().String()); err != nil {
		return err
	}

	if err := first.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	if _, err := io.WriteString(first.in, "go on\n"); err != nil {
		return err
	}
	var status int
	if err := first.hear("wrote", &status); err != nil {
		return err
	}
	fmt.Printf("the first worker goes on and writes: %d %s\n", status, http.StatusText(status))
	if got := store.get(); got != "by the second worker" {
		return fmt.Errorf("the report is %q: a worker whose time was over wrote last", got)
	}
	return nil
}

func secondWorker(ctx context.Context, store string) error {
	session, err := raftlock.NewSession(ctx, raftlock.WithTTL(ttl))
	if err != nil {
		return err
	}
	defer func() { _ = session.Close(ctx) }()
	asked := time.Now()
	lock, err := session.Lock(ctx, lockName)
	if err != nil {
		return err
	}
	token, err := lock.Token()
	if err != nil {
		return err
	}
	fmt.Printf("the second worker holds with token %d, after %s\n", token, time.Since(asked).Round(10*time.Millisecond))
	status, err := put(ctx, store, "by the second worker", token)
	if err != nil {
		return err
	}
	fmt.Printf("the second worker writes: %d %s\n", status, http.StatusText(status))
	return lock.Unlock(ctx)
}

// worker is the process of the first worker.
type worker struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

func startFirst(ctx context.Context, store string) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "--store", store)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &worker{cmd, in, bufio.NewScanner(out)}, cmd.Start()
}

// hear reads the worker's next line, which is a word and a number.
func (w *worker) hear(word string, number any) error {
	if !w.out.Scan() {
		return fmt.Errorf("the first worker ended before it said %q: is an agent there? (make run)", word)
	}
	if _, err := fmt.Sscanf(w.out.Text(), word+" %d", number); err != nil {
		return fmt.Errorf("the first worker said %q: %w", w.out.Text(), err)
	}
	return nil
}

func (w *worker) end() {
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait()
}
