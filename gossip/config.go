package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"
)

const (
	// defaultPort is that of join targets that name none.
	defaultPort = 7946
	// joinTargetsMax bounds the list, and so a round of joining.
	joinTargetsMax = 64
	// hostBytesMax is what DNS allows.
	hostBytesMax = 253
)

// Config of a Pool. Start from DefaultConfig.
type Config struct {
	// Name of this agent, unique in the pool, 1 to 128 bytes that can be printed,
	// without spaces and slashes. Two living agents of one name are warned of, and
	// only the newer one is told.
	Name string
	// Incarnation is a random number drawn at each start of the agent. Danger: an
	// agent that comes back with its old one is not told apart from its past.
	Incarnation uint64

	// Bind is the IP or host that is listened on, without port. A host must
	// resolve when Run starts.
	Bind string
	// Advertise is the IP or host that others are told; empty: Bind. It must be
	// given if Bind is a wildcard.
	Advertise string
	// Port is for both UDP and TCP. 0 takes any free one, for tests. Default 7946.
	Port int
	// PeerAddress is the host:port of this agent's peer port, as others dial it.
	// At most 140 bytes.
	PeerAddress string
	// Forwarder: this agent was told never to vote.
	Forwarder bool
	// Join has the targets, host or host:port (7946 if none is given); at most 64.
	// The same list on every agent is right: an agent leaves itself out. Empty:
	// this agent only waits for others.
	Join []string
	// SecretKey of 16, 24 or 32 bytes encrypts what is said and refuses who has
	// another. Empty: nothing is encrypted.
	SecretKey []byte

	Log *slog.Logger

	// JoinRetryMin is the pause after the first round of joining that reached
	// somebody not; it doubles. All pauses have a quarter of jitter either way.
	// Default 500 ms.
	JoinRetryMin time.Duration
	// JoinRetryAlone is the longest such pause while this agent sees no other.
	// Default 3 s.
	JoinRetryAlone time.Duration
	// JoinRetryMax is the longest such pause otherwise. Default 30 s.
	JoinRetryMax time.Duration
	// JoinCheck is the pause between looks (and DNS lookups) while all targets are
	// in view. Default 30 s.
	JoinCheck time.Duration
	// LeaveTimeout bounds how long Run takes to say goodbye. What is not said in
	// that time, others notice as a failure. Default 2 s.
	LeaveTimeout time.Duration
}

// DefaultConfig has the port and every duration.
func DefaultConfig() Config {
	return Config{
		Port:           defaultPort,
		JoinRetryMin:   500 * time.Millisecond,
		JoinRetryAlone: 3 * time.Second,
		JoinRetryMax:   30 * time.Second,
		JoinCheck:      30 * time.Second,
		LeaveTimeout:   2 * time.Second,
	}
}

// Validate reports everything that is wrong, at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(!isName(c.Name), "name %.40q must have 1 to %d bytes that can be printed, without spaces and slashes: change --name", c.Name, nameBytesMax)
	bad(c.Bind == "", "bind is empty: name the address to listen on with --bind")
	bad(c.Bind != "" && !isHost(c.Bind), "bind %.40q is no IP address or host name (without port): change --bind", c.Bind)
	bad(c.Advertise != "" && !isHost(c.Advertise), "advertise %.40q is no IP address or host name (without port): change --advertise", c.Advertise)
	bad(isWildcard(c.Bind) && c.Advertise == "", "bind %s is every address of this host, so others cannot be told where it is: name one with --advertise", c.Bind)
	bad(isWildcard(c.Advertise), "advertise %s is no address that others can dial: name one of this host's with --advertise", c.Advertise)
	bad(c.Port < 0 || c.Port > 65535, "gossip port %d must be 0 to 65535: change --gossip-port", c.Port)
	if err := checkPeerAddress(c.PeerAddress); err != nil {
		errs = append(errs, err)
	}
	bad(len(c.Join) > joinTargetsMax, "%d join targets are too many: give at most %d with --join, one per place that may fail is enough", len(c.Join), joinTargetsMax)
	for _, text := range c.Join {
		_, err := parseTarget(text)
		bad(err != nil, "join target %.60q: %w: change --join", text, err)
	}
	switch len(c.SecretKey) {
	case 0, 16, 24, 32:
	default:
		bad(true, "gossip key has %d bytes: it must have 16, 24 or 32", len(c.SecretKey))
	}
	bad(c.Log == nil, "log must be handed in")
	for _, d := range []time.Duration{c.JoinRetryMin, c.JoinRetryAlone, c.JoinRetryMax, c.JoinCheck, c.LeaveTimeout} {
		bad(d <= 0, "durations must be above zero")
	}
	bad(c.JoinRetryMin > c.JoinRetryAlone || c.JoinRetryAlone > c.JoinRetryMax,
		"pauses of joining must not fall: min %s, alone %s, max %s", c.JoinRetryMin, c.JoinRetryAlone, c.JoinRetryMax)
	return errors.Join(errs...)
}

func checkPeerAddress(address string) error {
	if isAddress(address) {
		return nil
	}
	if len(address) > addressBytesMax {
		return fmt.Errorf("peer address has %d bytes, at most %d can be told to others: use an IP address or a shorter name", len(address), addressBytesMax)
	}
	return fmt.Errorf("peer address %.60q must be host:port, as others dial it", address)
}

func isWildcard(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsUnspecified()
}

// isHost accepts IP addresses and what may be a name in DNS or a hosts file.
// Zones of IPv6 mean nothing to other hosts, and memberlist cannot dial them.
func isHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Zone() == ""
	}
	if host == "" || len(host) > hostBytesMax {
		return false
	}
	for _, r := range []byte(host) {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
		default:
			return false
		}
	}
	return true
}

// A target is a join target as configured.
type target struct {
	host string
	port uint16
}

func parseTarget(text string) (target, error) {
	host, port := text, strconv.Itoa(defaultPort)
	if n := len(text); n > 2 && text[0] == '[' && text[n-1] == ']' {
		host = text[1 : n-1]
	} else if _, err := netip.ParseAddr(text); err != nil {
		if h, p, err := net.SplitHostPort(text); err == nil {
			host, port = h, p
		}
	}
	if !isHost(host) {
		return target{}, errors.New("must be host or host:port; IPv6 with a port needs brackets")
	}
	if isWildcard(host) {
		return target{}, errors.New("is every address of a host, and none to dial")
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return target{}, errors.New("port must be 1 to 65535")
	}
	return target{host: host, port: uint16(number)}, nil
}
