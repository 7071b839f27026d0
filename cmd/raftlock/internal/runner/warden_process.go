package runner

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/raftlock/raftlock/internal/mutant"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// wardenLine is the warden's end of its socket; the standard descriptors below
// it are /dev/null.
const wardenLine = 3

// Warden is a process beside a runner, that does what a runner which was killed
// or stopped cannot do: end the command's process group. It joins the lock's
// session, so that the session does not end before it, and it does not end
// before the group has. It kills the group when the runner's end of the socket
// closes, and when the clock reads what the runner said last; not before the
// runner has said a first time, and not once the runner has said that the group
// is gone. It returns the exit status; errors are the runner's to tell.
func Warden(ctx context.Context) (int, error) {
	// A supervisor that ends all of a service at once must not end the warden
	// before the runner.
	for _, s := range forwarded {
		signal.Ignore(s)
	}
	signal.Ignore(unix.SIGPIPE)
	if err := errors.Join(shed(), unix.SetNonblock(wardenLine, true)); err != nil {
		return ExitUsage, fmt.Errorf("%w; this verb is started by raftlock run alone", err)
	}
	line := line(wardenLine)
	b, g, err := line.briefing()
	if err == nil {
		// Any order, or the runner's end, before this one is ready means that it
		// is not needed.
		var unneeded sync.WaitGroup
		ctx, cancel := context.WithCancel(ctx)
		unneeded.Go(func() { _ = line.await(-1); cancel() })
		defer unneeded.Wait()
		defer line.close()
		err = line.join(ctx, b)
	}
	if err != nil {
		line.report(reportFailed + err.Error())
		return ExitNotAcquired, err
	}
	line.report(reportReady)
	debug.FreeOSMemory() // joining has left some, and the wait may be long
	return 0, line.obey(g)
}

// shed closes what was inherited beside the line: whoever waits for the end of
// a pipe must not wait for the warden. What the process itself has opened is
// closed on execution, and known by that.
func shed() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= wardenLine {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}

// line is the warden's end of the socket. It does not block.
type line int

var (
	errSilent = errors.New("no order yet")
	errOrphan = errors.New("the runner is gone")
)

// receive takes a packet and the descriptor that came with it, -1 if none did.
// Errors: errSilent, errOrphan.
func (l line) receive(packet []byte) (n, fd int, err error) {
	oob := make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(int(l), packet, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR, err == unix.ECONNRESET:
			// The latter: the runner died with a report unread. Its own last
			// orders are still here.
			continue
		case err == unix.EAGAIN:
			return 0, -1, errSilent
		case err != nil:
			return 0, -1, fmt.Errorf("%w: %w", errOrphan, err)
		case n == 0:
			return 0, -1, errOrphan
		}
		return n, descriptor(oob[:oobn]), nil
	}
}

func descriptor(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1
	}
	return fds[0]
}

func (l line) report(text string) {
	// A runner that is gone is noticed by its orders' end.
	_ = unix.Sendmsg(int(l), []byte(text[:min(len(text), reportMax)]), nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// await blocks until there is an order, or timer (if not negative) has run out.
func (l line) await(timer int) error {
	ready := []unix.PollFd{{Fd: int32(l), Events: unix.POLLIN}, {Fd: int32(timer), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(ready, -1) // a negative descriptor is passed over
		if err != unix.EINTR {
			return err
		}
	}
}

// close ends both ways; whoever awaits hears of it.
func (l line) close() { _ = unix.Shutdown(int(l), unix.SHUT_RDWR) }

func (l line) briefing() (wardenBriefing, group, error) {
	var b wardenBriefing
	packet := make([]byte, briefingMax)
	if err := l.await(-1); err != nil {
		return b, group{}, err
	}
	n, fd, err := l.receive(packet)
	if err != nil {
		return b, group{}, err
	}
	if err := json.Unmarshal(packet[:n], &b); err != nil || b.Group <= 1 {
		// Not the text itself: it holds the pass.
		return b, group{}, errors.New("the runner's order cannot be read; start the command with raftlock run")
	}
	return b, group{id: b.Group, fd: fd}, nil
}

// briefingMax is above all that a briefing can be: a socket's path is short.
const briefingMax = 16 << 10

// join makes this process one of the session's. The stream is closed again:
// the agent knows the process, and after the runner's death nobody is to keep
// the session alive longer than its lease.
func (l line) join(ctx context.Context, b wardenBriefing) error {
	if mutant.On("run-warden-joined") {
		return nil
	}
	pass, err := raftlock.ParsePass(b.Pass)
	if err != nil {
		return err
	}
	client, err := raftlock.Dial(ctx, raftlock.WithSocket(b.Socket), raftlock.WithTTL(b.TTL))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, b.TTL)
	defer cancel()
	member, err := client.Join(ctx, pass)
	if err != nil {
		return err
	}
	member.Close()
	return nil
}

// never is the killAt of a warden without an order: nothing was executed yet.
const never = time.Duration(math.MaxInt64)

// obey does so until the runner says that the group is gone, or is gone itself.
// Orders are read before the clock is looked at: a warden that was held up must
// not judge by an old one. Once the group was killed it is not killed again:
// where its number is all that is known of it, that may be another's by then.
func (l line) obey(g group) error {
	// Unlike poll's time-out and Go's timers it runs on while the host sleeps.
	alarm, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(alarm)
	killAt, fired := never, false
	for {
		var orphan error
		killAt, orphan = l.newest(killAt)
		if killAt == wardenDone && !mutant.On("run-warden-done") {
			return nil
		}
		if orphan != nil || killAt == wardenDone {
			if killAt != never && !fired && !mutant.On("run-warden-kill") {
				g.kill(max(killAt, clock()) + undeadMax)
			}
			return nil
		}
		if !fired && clock() >= killAt && !mutant.On("run-warden-clock") {
			fired = true
			l.report(reportFired) // first: the runner is to know why
			g.kill(killAt + undeadMax)
		}
		if err := l.pause(alarm, killAt, fired); err != nil {
			return err
		}
	}
}

// pause blocks until there is an order or the clock reads killAt, if it matters.
func (l line) pause(alarm int, killAt time.Duration, fired bool) error {
	if fired || killAt == never {
		return l.await(-1)
	}
	at := &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(killAt))}
	if err := unix.TimerfdSettime(alarm, unix.TFD_TIMER_ABSTIME, at, nil); err != nil {
		return err
	}
	return l.await(alarm)
}

// newest reads the orders there are and returns the last, or killAt if there is
// none, with errOrphan if none will come.
func (l line) newest(killAt time.Duration) (time.Duration, error) {
	packet := make([]byte, 8)
	for {
		n, _, err := l.receive(packet)
		switch {
		case err == errSilent:
			return killAt, nil
		case err != nil:
			return killAt, err
		case n == len(packet):
			killAt = time.Duration(binary.LittleEndian.Uint64(packet))
		}
		if killAt == wardenDone {
			return killAt, nil
		}
	}
}
