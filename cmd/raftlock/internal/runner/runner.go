package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// What Run returns beside the command's own status. 128 and a signal's number
// stand for a command, or a wait, that the signal ended.
const (
	ExitUsage       = 64 // sysexits.h: EX_USAGE
	ExitNoAgent     = 69 // EX_UNAVAILABLE: nobody on the socket
	ExitNotAcquired = 75 // EX_TEMPFAIL: try again later; the command was not started
	ExitLost        = 76 // EX_PROTOCOL: the command was stopped because the lock was lost
	ExitDenied      = 77 // EX_NOPERM: the socket, or the agent, keeps this user out
	ExitNotRunnable = 126
	ExitNotFound    = 127
	ExitSignal      = 128
)

const (
	// reachPatience is how long nobody may be on the socket before a run
	// without a shorter Wait gives up: long enough for an agent's restart.
	reachPatience = 10 * time.Second
	// tryPatience is how long a try waits for an answer, once somebody is on
	// the socket: longer than an election.
	tryPatience = 5 * time.Second
	// leaveMax bounds how long a wait that is over waits for the cluster to
	// hear of it. The agent sees the process end if it does not.
	leaveMax = time.Second
	// givebackMax bounds how long the end of a run waits for the cluster to
	// confirm. The lease frees the lock if it does not.
	givebackMax = 5 * time.Second
	// undeadMax bounds the wait for killed processes that do not die (they
	// hang in a disk's operation, say).
	undeadMax = 5 * time.Second
)

// Config says what to run under which lock. No field has a default here.
type Config struct {
	// Socket is the agent's; the command finds it in RAFTLOCK_SOCKET.
	Socket string
	Lock   string
	// Command is a program, looked up in PATH, and its arguments.
	Command []string
	TTL     time.Duration
	// Try fails at once if somebody holds the lock, and soon if nobody answers.
	Try bool
	// Wait bounds the wait for the turn; negative: for ever.
	Wait     time.Duration
	Priority int32
	// StopTimeout is what the command has between SIGTERM and SIGKILL. It is
	// taken out of V, so at most half the TTL.
	StopTimeout time.Duration
	// Shim is the executable and the first arguments that lead to Shim; the
	// command's words are appended.
	Shim []string
	// Warden is the executable and the arguments that lead to Warden.
	Warden                []string
	Environ               []string
	Stdin, Stdout, Stderr *os.File
}

// DefaultStopTimeout is the stopping time of commands for a TTL.
func DefaultStopTimeout(ttl time.Duration) time.Duration { return min(2*time.Second, ttl/4) }

// Validate says what is wrong, all at once.
func (c *Config) Validate() error {
	var wrong []error
	if err := validName(c.Lock); err != nil {
		wrong = append(wrong, err)
	}
	if len(c.Command) == 0 {
		wrong = append(wrong, errors.New("no command is given; put it after --"))
	}
	if c.TTL < raftlock.TTLMin {
		wrong = append(wrong, fmt.Errorf("--ttl %v is below %v; raise it", c.TTL, raftlock.TTLMin))
	}
	if c.StopTimeout < 0 || c.StopTimeout > c.TTL/2 {
		wrong = append(wrong, fmt.Errorf("--stop-timeout %v is not between 0 and half the TTL (%v); lower it or raise --ttl",
			c.StopTimeout, c.TTL/2))
	}
	if c.Try && c.Wait >= 0 {
		wrong = append(wrong, errors.New("--try does not wait; leave out --wait"))
	}
	return errors.Join(wrong...)
}

// lockBytesMax is the cluster's bound.
const lockBytesMax = 512

// validName judges as the agent does, which need not be there for that.
func validName(lock string) error {
	switch {
	case lock == "" || len(lock) > lockBytesMax:
		return fmt.Errorf("a lock's name has 1 to %d bytes, and this one %d; change it", lockBytesMax, len(lock))
	case !utf8.ValidString(lock):
		return fmt.Errorf("a lock's name is UTF-8, and %q is not; change it", lock)
	case strings.ContainsFunc(lock, unicode.IsControl):
		return fmt.Errorf("a lock's name has no control characters, and %q has; change it", lock)
	}
	return nil
}

// margin is what is kept between the last SIGKILL and V: the time a kill takes
// to arrive on a busy host.
func (c *Config) margin() time.Duration {
	return min(max(c.TTL/10, 20*time.Millisecond), time.Second)
}

type run struct {
	cfg     Config
	client  *raftlock.Client
	signals <-chan os.Signal
	leaving sync.WaitGroup // of a warden that was told to go
}

// Run waits for the lock, runs the command, gives the lock back and returns
// the exit status. It takes the process's signals and its children. The error
// is for people, ends with what to do next, and is nil when the command's own
// status says all.
func Run(ctx context.Context, cfg Config) (int, error) {
	if err := cfg.Validate(); err != nil {
		return ExitUsage, err
	}
	client, err := raftlock.Dial(ctx, raftlock.WithSocket(cfg.Socket), raftlock.WithTTL(cfg.TTL))
	if err != nil {
		return ExitUsage, err
	}
	defer client.Close()
	signals, ignore := listen()
	defer ignore()
	r := &run{cfg: cfg, client: client, signals: signals}
	defer r.leaving.Wait()

	session, lock, code, err := r.turn(ctx)
	if err != nil || lock == nil {
		return code, err
	}
	code, err = r.hold(session, lock)
	return code, errors.Join(err, giveBack(ctx, session, lock))
}

// giveBack releases and ends the session, within a bound. A hold that is lost
// already is not worth a word here: hold has said so.
func giveBack(ctx context.Context, session *raftlock.Session, lock *raftlock.Lock) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), givebackMax)
	defer cancel()
	err := lock.Unlock(ctx)
	if closing := session.Close(ctx); err == nil {
		err = closing
	}
	if err == nil || errors.Is(err, raftlock.ErrLost) || errors.Is(err, raftlock.ErrSessionEnded) {
		return nil
	}
	return fmt.Errorf("%w; the lock is free when its TTL has passed", err)
}

func (r *run) tell(format string, args ...any) {
	// Nobody can be told that telling failed.
	_, _ = fmt.Fprintf(r.cfg.Stderr, "raftlock: "+format+"\n", args...)
}

// clock reads CLOCK_BOOTTIME, in which deadlines are told.
func clock() time.Duration {
	var ts unix.Timespec
	// raftlock.Dial has read it too, or there would be no session.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// IsTerminal reports that a person may be at f, which /dev/null is not.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
