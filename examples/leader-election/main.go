// Command leader-election elects one of several processes, kills it, and shows
// the next one lead: as many times as there are others.
//
// A leader is whoever holds the lock "examples/leader". Its successor waits in
// the queue and leads milliseconds after the leader's process died: no time-out
// has to pass. The example fails (exit status 1) if two ever led at a time.
//
//	go run ./examples/leader-election
//	go run ./examples/leader-election --without-lock    # and so it fails
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"time"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

const (
	lockName = "examples/leader"
	// term is how long each leads before it is killed.
	term = 300 * time.Millisecond
	// patience bounds every wait, so that the example ends without an agent too.
	patience = 30 * time.Second
)

func main() {
	log.SetFlags(0)
	candidates := flag.Int("candidates", 3, "how many processes stand for election")
	withoutLock := flag.Bool("without-lock", false, "leave the lock out, to see what it is for")
	stand := flag.Int("stand", 0, "be the candidate of this number (the example starts itself so)")
	flag.Parse()

	if *stand > 0 {
		if err := candidate(*withoutLock); err != nil {
			log.Fatalf("candidate %d: %v", *stand, err)
		}
		return
	}
	if err := election(*candidates, *withoutLock); err != nil {
		log.Fatal("FAILED: ", err)
	}
	fmt.Println("ok: never two leaders at a time")
}

// candidate is all that an application has to do. It says on standard output
// what happens, and stands until its standard input ends.
func candidate(withoutLock bool) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()

	session, err := raftlock.NewSession(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close(ctx) }()
	fmt.Println("stands")
	if withoutLock {
		fmt.Println("leads", 0)
		<-ctx.Done()
		return nil
	}

	lock, err := session.Lock(ctx, lockName)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock(ctx) }()
	token, err := lock.Token()
	if err != nil {
		return err // lost before it began: stand again
	}
	fmt.Println("leads", token)
	lead(lock)
	return nil
}

// lead does what only the leader may do, a step at a time. The context ends when
// the lock is lost or given up; what a step writes elsewhere has to carry the
// token, since a process can be stopped between this look and its write.
func lead(lock *raftlock.Lock) {
	steps := time.NewTicker(50 * time.Millisecond)
	defer steps.Stop()
	for {
		select {
		case <-lock.Lost():
			return
		case <-steps.C:
			if _, err := lock.Token(); err != nil {
				return
			}
		}
	}
}

// said is a line that a candidate wrote.
type said struct {
	who, token int
	what       string
	at         time.Time
}

// election starts the candidates and kills each leader after its term.
func election(n int, withoutLock bool) error {
	lines := make(chan said, 3*n)
	candidates := make(map[int]*exec.Cmd)
	defer func() {
		for _, c := range candidates {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}()
	for i := 1; i <= n; i++ {
		c, err := start(i, withoutLock, lines)
		if err != nil {
			return err
		}
		candidates[i] = c
	}

	leader, killed := said{}, time.Time{}
	for ended, standing := 0, 0; ended < n; {
		var over <-chan time.Time
		if leader.who > 0 && standing == n {
			over = time.After(time.Until(leader.at.Add(term)))
		}
		select {
		case line := <-lines:
			switch {
			case line.what == "stands":
				standing++
				leader.at = time.Now() // a term begins when all are there
			case leader.who > 0:
				return fmt.Errorf("candidate %d leads, and candidate %d does too", leader.who, line.who)
			case !withoutLock && line.token <= leader.token:
				return fmt.Errorf("token %d does not exceed %d, the last leader's", line.token, leader.token)
			default:
				tell(line, killed)
				leader = line
			}
		case <-over:
			fmt.Printf("candidate %d is killed\n", leader.who)
			killed = time.Now()
			_ = candidates[leader.who].Process.Kill()
			_ = candidates[leader.who].Wait()
			delete(candidates, leader.who)
			leader.who = 0
			ended++
		case <-time.After(patience):
			return fmt.Errorf("nobody leads for %s: is an agent there? (make run)", patience)
		}
	}
	return nil
}

func tell(line said, killed time.Time) {
	if killed.IsZero() {
		fmt.Printf("candidate %d leads with token %d\n", line.who, line.token)
		return
	}
	fmt.Printf("candidate %d leads with token %d, %s after the kill\n",
		line.who, line.token, line.at.Sub(killed).Round(100*time.Microsecond))
}

// start runs this program as candidate i, and passes on what it says.
func start(i int, withoutLock bool, lines chan<- said) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self, "--stand", fmt.Sprint(i), fmt.Sprintf("--without-lock=%t", withoutLock))
	c.Stderr = os.Stderr
	// Never written to: it ends with this process, and the candidate with it.
	if _, err := c.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	go func() {
		for in := bufio.NewScanner(out); in.Scan(); {
			line := said{who: i, at: time.Now()}
			_, _ = fmt.Sscan(in.Text(), &line.what, &line.token)
			lines <- line
		}
	}()
	return c, nil
}
