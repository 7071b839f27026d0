package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/raftlock/raftlock/gossip"
	"github.com/raftlock/raftlock/telemetry"
	"github.com/raftlock/raftlock/uds/limit"
)

// The roles of Options.Role.
const (
	// RoleAuto: a voter if it is among the first, else a forwarder.
	RoleAuto = "auto"
	// RoleForwarder: never a voter.
	RoleForwarder = "forwarder"
)

// heartbeatsMissed: Raft lets a leader send a heartbeat every tenth to fifth
// of its heartbeat timeout.
const heartbeatsMissed = 10

// Options say what one agent is to be. Start from DefaultOptions.
type Options struct {
	// Name is unique among the agents; default: the host's.
	Name string
	// DataDir is this agent's alone. An emptied one makes a new server.
	DataDir string
	// Socket is the application socket; SocketGroup, if not empty, its group by
	// name or number.
	Socket, SocketGroup string
	// AdminSocket is the administrator's.
	AdminSocket string
	// Bind is the IP that peers and gossip listen on; Advertise the one that
	// others reach it at, default Bind.
	Bind, Advertise string
	// GossipPort is UDP and TCP, PeerPort TCP; 0 takes any that is free.
	GossipPort, PeerPort int
	// Join are agents to find the others by: host or host:port.
	Join []string
	// Expect is the number of voters of a first start, the same on every agent.
	Expect int
	// Initial names the agents of the first start, if not empty.
	Initial []string
	// Role is RoleAuto or RoleForwarder.
	Role string
	// InsecurePlaintext allows Bind beyond loopback: nothing is encrypted, and
	// whoever reaches the ports is believed.
	InsecurePlaintext bool
	// HTTP serves health, metrics and reads on a loopback host:port; empty:
	// nothing.
	HTTP string
	// HTTPWrites: it takes, renews and releases locks too. Danger: for any user
	// of this host, whoever may use the socket, all under one identity.
	HTTPWrites bool
	// LimitRate is how many requests a second one user may make, LimitBurst how
	// many at once after a time of few, LimitConcurrent how many may be under way,
	// waits among them. Releases, cancels, ends and the upkeep of sessions are
	// never refused.
	LimitRate, LimitBurst, LimitConcurrent Bound
	// ElectionTimeout is how long a Raft candidate waits for votes.
	ElectionTimeout time.Duration
	// HeartbeatInterval is how often a Raft leader is heard of at least; ten of
	// them missed, and a follower stands.
	HeartbeatInterval time.Duration
	// SnapshotInterval is how often a voter looks whether a snapshot is due.
	SnapshotInterval time.Duration
	// Dev: one host alone, on loopback.
	Dev bool
	// Reached, if not nil, is called once by Run, when the sockets are served and
	// a leader is reached for the first time: locks can be had. What tells of
	// health waits for it.
	Reached func()
	// AppListener and AdminListener, if not nil, are served in place of Socket
	// and AdminSocket, whose paths are then not touched: file, owner and mode are
	// those of whoever made them. Open takes them over, also when it fails.
	AppListener, AdminListener net.Listener
	// Notify, if not nil, tells a service manager how it goes, in the words of
	// sd_notify(3). It is called from several goroutines.
	Notify func(state string) error
	// Watchdog, if not zero, is how long the service manager takes silence for
	// life: within it Notify tells of progress, where there is any.
	Watchdog time.Duration
	// Telemetry is where this agent's metrics and traces go; nil: nowhere, and
	// there is no /metrics. Whoever made it shuts it down, after Run.
	Telemetry *telemetry.Telemetry
	// Version of the software, for people.
	Version string
	Log     *slog.Logger
}

// DefaultOptions are those of the daemon. Log must be given.
func DefaultOptions() Options {
	name, err := os.Hostname()
	if err != nil {
		name = "" // Validate asks for one
	}
	return Options{
		Name: name, DataDir: "/var/lib/raftlock", Socket: "/run/raftlock.sock", AdminSocket: "/run/raftlock-admin.sock",
		Bind: "127.0.0.1", GossipPort: gossip.DefaultConfig().Port, PeerPort: 7950,
		Expect: 5, Role: RoleAuto,
		LimitRate: limit.RateDefault, LimitBurst: limit.BurstDefault, LimitConcurrent: limit.ConcurrentDefault,
		ElectionTimeout: time.Second, HeartbeatInterval: 75 * time.Millisecond, SnapshotInterval: 2 * time.Minute,
	}
}

// DevOptions are those of one host on its own: a cluster of one that keeps its
// state under dir.
func DevOptions(dir string) Options {
	o := DefaultOptions()
	o.Dev, o.Expect = true, 1
	o.GossipPort, o.PeerPort = 0, 0 // nobody else is to find it
	o.DataDir = filepath.Join(dir, "data")
	o.Socket, o.AdminSocket = filepath.Join(dir, "raftlock.sock"), filepath.Join(dir, "admin.sock")
	return o
}

// Validate tells everything that is wrong, at once, each with what to change.
func (o Options) Validate() error {
	var errs []error
	bad := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(o.DataDir == "", "--data-dir is empty: give a directory that is this agent's alone")
	o.validateSockets(bad)
	o.validateGroup(bad)
	o.validateNetwork(bad)
	o.validateFounding(bad)
	o.validateTimings(bad)
	o.validateLimits(bad)
	return errors.Join(errors.Join(errs...), o.validateGossip())
}

// validateGroup looks the group up that the application socket is to be of. One
// that was handed in has a group already.
func (o Options) validateGroup(bad complain) {
	if o.SocketGroup == "" || o.AppListener != nil {
		return
	}
	if _, err := strconv.ParseUint(o.SocketGroup, 10, 31); err == nil {
		return
	}
	_, err := user.LookupGroup(o.SocketGroup)
	bad(err != nil, "--socket-group %q: %v: give the name or number of a group of this host's", o.SocketGroup, err)
}

// validateGossip asks gossip, which carries them, about the name and the join
// targets. The addresses stand for any: validateNetwork looks at the real ones.
func (o Options) validateGossip() error {
	c := gossip.DefaultConfig()
	c.Name, c.Join = o.Name, o.Join
	c.Bind, c.PeerAddress, c.Log = "127.0.0.1", "127.0.0.1:7950", slog.New(slog.DiscardHandler)
	return c.Validate()
}

type complain func(is bool, format string, args ...any)

func (o Options) validateSockets(bad complain) {
	// The kernel's sockaddr_un holds 107 bytes and an end.
	for _, s := range []struct{ flag, path string }{{"--socket", o.Socket}, {"--admin-socket", o.AdminSocket}} {
		bad(s.path == "", "%s is empty: give a path", s.flag)
		bad(len(s.path) > 107, "%s %q has %d bytes, and a socket's path at most 107: give a shorter one", s.flag, s.path, len(s.path))
	}
	bad(o.Socket != "" && o.Socket == o.AdminSocket, "--socket and --admin-socket are both %q: give two paths", o.Socket)
	bad(o.HTTPWrites && o.HTTP == "", "--http-writes without --http: give the address to serve, or leave it out")
	host, _, err := net.SplitHostPort(o.HTTP)
	bad(o.HTTP != "" && err != nil, "--http %q: give host:port, such as 127.0.0.1:7951", o.HTTP)
	bad(o.HTTP != "" && err == nil && !loopback(host),
		"--http %q is not on loopback: it has no access control, so give 127.0.0.1:PORT and put a proxy of yours in front", o.HTTP)
}

func (o Options) validateNetwork(bad complain) {
	bind, err := netip.ParseAddr(o.Bind)
	bad(err != nil, "--bind %q is no IP address: give one of this host's, such as 127.0.0.1", o.Bind)
	advertise, aerr := netip.ParseAddr(o.Advertise)
	bad(o.Advertise != "" && aerr != nil, "--advertise %q is no IP address: give the one that the other agents reach this host at", o.Advertise)
	bad(aerr == nil && advertise.IsUnspecified(), "--advertise %s is nobody's address: give the one that the other agents reach this host at", o.Advertise)
	bad(err == nil && bind.IsUnspecified() && o.Advertise == "",
		"--bind %s is every address of this host: say with --advertise which one the other agents reach it at", o.Bind)
	bad(err == nil && !bind.IsLoopback() && !o.InsecurePlaintext,
		"--bind %s is not on loopback, and traffic between agents is not encrypted yet: bind to 127.0.0.1, or accept it with --insecure-plaintext", o.Bind)
	bad(o.Dev && err == nil && !bind.IsLoopback(), "--dev is one host on loopback: leave --bind %s out, or --dev", o.Bind)
	for _, p := range []struct {
		flag string
		port int
	}{{"--gossip-port", o.GossipPort}, {"--peer-port", o.PeerPort}} {
		bad(p.port < 0 || p.port > 65535, "%s %d: give a port from 1 to 65535", p.flag, p.port)
	}
	bad(o.GossipPort != 0 && o.GossipPort == o.PeerPort, "--gossip-port and --peer-port are both %d: both use TCP, so give two ports", o.GossipPort)
	if _, port, err := net.SplitHostPort(o.HTTP); err == nil && port != "0" {
		bad(port == strconv.Itoa(o.PeerPort) || port == strconv.Itoa(o.GossipPort), "--http %s has the port of another flag: give it one of its own", o.HTTP)
	}
	bad(o.Dev && len(o.Join) > 0, "--dev is one host alone: leave --join out, or --dev")
}

func (o Options) validateFounding(bad complain) {
	bad(o.Role != RoleAuto && o.Role != RoleForwarder, "--role %q: give auto or forwarder", o.Role)
	bad(o.Expect != 1 && o.Expect != 3 && o.Expect != 5, "--expect %d: give the number of voters to begin with, 1, 3 or 5, the same on every agent", o.Expect)
	bad(o.Dev && o.Expect != 1, "--dev is one host alone: leave --expect %d out, or --dev", o.Expect)
	bad(o.Dev && o.Role == RoleForwarder, "--dev needs its one host to vote: leave --role forwarder out, or --dev")
	bad(len(o.Initial) > 0 && len(o.Initial) != o.Expect, "--initial names %d agents and --expect says %d: make them agree", len(o.Initial), o.Expect)
	for i, name := range o.Initial {
		bad(name == "" || slices.Contains(o.Initial[:i], name), "--initial has %q twice or empty: name each agent once", name)
	}
	bad(o.Role == RoleForwarder && slices.Contains(o.Initial, o.Name), "--initial names %s, which --role forwarder keeps from voting: drop one of them", o.Name)
	bad(o.Role == RoleForwarder && len(o.Join) == 0, "--role forwarder finds nobody without --join: give the gossip address of another agent")
}

func (o Options) validateTimings(bad complain) {
	bad(o.HeartbeatInterval < time.Millisecond || o.HeartbeatInterval > time.Minute, "--heartbeat-interval %s: give 1ms to 1m", o.HeartbeatInterval)
	bad(o.ElectionTimeout < heartbeatsMissed*o.HeartbeatInterval,
		"--election-timeout %s is below ten times --heartbeat-interval %s: raise it to %s, or lower the interval",
		o.ElectionTimeout, o.HeartbeatInterval, heartbeatsMissed*o.HeartbeatInterval)
	bad(o.ElectionTimeout > 10*time.Minute, "--election-timeout %s: give at most 10m", o.ElectionTimeout)
	bad(o.SnapshotInterval < time.Second, "--snapshot-interval %s: give 1s or more", o.SnapshotInterval)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// advertised is the address that others reach a port of this agent at.
func (o Options) advertised(port int) string {
	host := o.Advertise
	if host == "" {
		host = o.Bind
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}
