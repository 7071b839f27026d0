package runner

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// warden is the runner's end of a warden process (see Warden). Its methods are
// hold's goroutine's; the channels are anybody's.
type warden struct {
	process *os.Process
	line    *os.File      // a socket of packets: orders one way, reports the other
	ready   chan struct{} // it joined, and stands by
	fired   chan struct{} // it killed the group because the time had come
	gone    chan struct{} // it is no more; failure is set before
	failure string        // what it said of that, if anything
	isReady bool          // ready was seen
	fires   bool          // fired was
	told    time.Duration // the last killAt told; 0: none, it does not kill yet
	hearing sync.WaitGroup
}

// wardenBriefing is the first packet. The second packet and all that follow are
// eight bytes: when to kill, on the clock, or wardenDone.
type wardenBriefing struct {
	briefing
	Group int `json:"group"` // its pidfd comes along, where there is one
}

// wardenDone is the last order: leave, and kill nobody.
const wardenDone = 0

// What a warden says.
const (
	reportReady  = "ready"
	reportFired  = "fired"
	reportFailed = "failed: "
	reportMax    = 1024 // bytes
)

// wardenLeave bounds the wait for a warden that was told to leave.
const wardenLeave = time.Second

// startWarden starts one, in a session of its own: what a terminal or a shell
// sends to the runner's group, or to the command's, is not meant for it. It has
// no order yet. Nothing that the runner inherited may be let go by it later
// than by the command; so it closes the rest itself (see shed).
func startWarden(cfg *Config) (*warden, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a line to the warden: %w", err)
	}
	line, far := os.NewFile(uintptr(ends[0]), "warden"), os.NewFile(uintptr(ends[1]), "runner")
	defer far.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		_ = line.Close()
		return nil, fmt.Errorf("start the warden: %w", err)
	}
	defer null.Close()
	process, err := os.StartProcess(cfg.Warden[0], append([]string{"raftlock"}, cfg.Warden[1:]...), &os.ProcAttr{
		Dir: "/", Env: cfg.Environ, Files: []*os.File{null, null, null, far}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		_ = line.Close()
		return nil, fmt.Errorf("start the warden: %w", err)
	}
	w := &warden{
		process: process, line: line,
		ready: make(chan struct{}), fired: make(chan struct{}), gone: make(chan struct{}),
	}
	w.hearing.Go(w.hear)
	return w, nil
}

// hear reads what the warden says, until its end.
func (w *warden) hear() {
	defer close(w.gone)
	packet := make([]byte, reportMax)
	for {
		n, err := w.line.Read(packet)
		if err != nil { // EOF too
			return
		}
		switch report := string(packet[:n]); {
		case report == reportReady:
			close(w.ready)
		case report == reportFired:
			close(w.fired)
		case strings.HasPrefix(report, reportFailed):
			w.failure = report[len(reportFailed):]
		}
	}
}

// news are the channels not seen closed yet; nil ones for no warden.
func (w *warden) news() (ready, fired, gone <-chan struct{}) {
	if w == nil {
		return nil, nil, nil
	}
	if !w.isReady {
		ready = w.ready
	}
	if !w.fires {
		fired = w.fired
	}
	return ready, fired, w.gone
}

// brief hands over what the warden needs to know, and the group itself.
func (w *warden) brief(b briefing, g group) {
	if path, err := filepath.Abs(b.Socket); err == nil {
		b.Socket = path // it works in another folder
	}
	packet, err := json.Marshal(wardenBriefing{briefing: b, Group: g.id})
	if err != nil {
		return // these types can all be written
	}
	var rights []byte
	if g.fd >= 0 {
		rights = unix.UnixRights(g.fd)
	}
	w.send(packet, rights)
}

// tell says when the group is to be killed if nothing else is said. From the
// first time on, the runner's death is the group's.
func (w *warden) tell(killAt time.Duration) {
	if killAt == w.told {
		return
	}
	w.told = killAt
	w.send(binary.LittleEndian.AppendUint64(nil, uint64(killAt)), nil)
}

// send never waits. A warden that has left no room for minutes is wedged: it
// is put out of the way, and noticed by its end.
func (w *warden) send(packet, rights []byte) {
	conn, err := w.line.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = conn.Write(func(fd uintptr) bool {
		err = unix.Sendmsg(int(fd), packet, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return true
	})
	if err == unix.EAGAIN || err == unix.ENOBUFS {
		_ = w.process.Kill()
	}
}

// release tells the warden to leave, the group being gone.
func (w *warden) release() {
	w.send(binary.LittleEndian.AppendUint64(nil, wardenDone), nil)
}

// await returns when the warden has left after release. One that is stopped or
// wedged is killed.
func (w *warden) await() {
	late := time.NewTimer(wardenLeave)
	defer late.Stop()
	select {
	case <-w.gone:
	case <-late.C:
		_ = w.process.Kill()
		<-w.gone
	}
	// The keeper may have waited for it already.
	_, _ = w.process.Wait()
	w.hearing.Wait()
	_ = w.line.Close()
}
