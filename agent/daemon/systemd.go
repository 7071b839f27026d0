package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"
)

// The names of sockets that are handed in: FileDescriptorName= of a socket unit.
const (
	ActivatedApp   = "app"
	ActivatedAdmin = "admin"
)

// handedInMax bounds the descriptors that are looked at.
const handedInMax = 16

// Errors of Options.FromSystemd.
var (
	// ErrActivation: a descriptor that was handed in cannot be what its name
	// says, or has no name that is known. Only another start can help.
	ErrActivation = errors.New("socket activation")
	// ErrNotify: NOTIFY_SOCKET or WATCHDOG_USEC cannot be used.
	ErrNotify = errors.New("service notification")
)

// FromSystemd takes what a service manager hands to this process, and takes its
// variables out of the environment: sockets that are already bound, where to
// tell how it goes, and how long silence is allowed. Without a service manager
// it changes nothing. It is to be called once, before anything that opens files
// or starts processes: the descriptors are numbers from 3 on.
func (o *Options) FromSystemd() error {
	if err := fewHandedIn(); err != nil {
		return fmt.Errorf("%w: %w", ErrActivation, err)
	}
	files := activation.Files(true) // closed on exec from here on
	err := o.activate(files)
	for _, f := range files {
		_ = f.Close() // net.FileListener has its own
	}
	if err != nil {
		o.closeActivated()
		return fmt.Errorf("%w: %w", ErrActivation, err)
	}
	if err := o.notifying(); err != nil {
		o.closeActivated()
		return fmt.Errorf("%w: %w", ErrNotify, err)
	}
	return nil
}

// fewHandedIn looks at the number of descriptors before anything is made of it:
// the library makes that many files, and there are not that many names.
func fewHandedIn() error {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err == nil && n > handedInMax && os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		return fmt.Errorf("LISTEN_FDS is %d, and no more than %d sockets make sense: give the service two", n, handedInMax)
	}
	return nil
}

// activate sorts the descriptors by their names. A lone one without a name, as
// systemd-socket-activate gives it, is the application socket.
func (o *Options) activate(files []*os.File) error {
	for _, f := range files {
		var to *net.Listener
		var flag string
		switch name := f.Name(); {
		case name == ActivatedApp, len(files) == 1 && (name == "unknown" || strings.HasPrefix(name, "LISTEN_FD_")):
			to, flag = &o.AppListener, "application"
		case name == ActivatedAdmin:
			to, flag = &o.AdminListener, "administrator's"
		default:
			return fmt.Errorf("a socket named %q was handed in: set FileDescriptorName= of its unit to %s or %s", name, ActivatedApp, ActivatedAdmin)
		}
		if *to != nil {
			return fmt.Errorf("two %s sockets were handed in: give one unit one ListenStream=", flag)
		}
		l, err := net.FileListener(f)
		if err != nil {
			return fmt.Errorf("the %s socket that was handed in does not listen: use ListenStream=, and Accept=no: %w", flag, err)
		}
		if l.Addr().Network() != "unix" {
			_ = l.Close()
			return fmt.Errorf("the %s socket that was handed in is at %s %s: give a path to ListenStream=", flag, l.Addr().Network(), l.Addr())
		}
		*to = l
	}
	return nil
}

func (o *Options) closeActivated() {
	for _, l := range []*net.Listener{&o.AppListener, &o.AdminListener} {
		if *l != nil {
			_ = (*l).Close()
			*l = nil
		}
	}
}

func (o *Options) notifying() error {
	interval, err := sd.SdWatchdogEnabled(true)
	if err != nil {
		return err
	}
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	// It cannot fail: the name is neither empty nor has it a NUL or a "=".
	_ = os.Unsetenv("NOTIFY_SOCKET")
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	o.Notify, o.Watchdog = newNotifier(conn), interval
	return nil
}

// newNotifier sends states, such as READY=1, as one datagram each. It waits for
// the manager's queue at most a moment: the agent's work goes first.
func newNotifier(conn *net.UnixConn) func(string) error {
	const patience = time.Second
	return func(state string) error {
		if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		_, err := conn.Write([]byte(state))
		return err
	}
}

// tell is Notify for those who go on without it.
func (d *Daemon) tell(state string) {
	if d.opt.Notify == nil {
		return
	}
	if err := d.opt.Notify(state); err != nil {
		d.log.Warn("service manager not told", "state", state, slog.Any("error", err))
	}
}
