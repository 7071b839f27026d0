package demo

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	gossipPort = 7946
	peerPort   = 7950
	httpPort   = 7951
	// reservePort, at an address that no agent has, is bound for as long as a
	// demo runs, so that two demos never choose the same network.
	reservePort = 7945

	// agentsMax: the last byte of an address, some left out.
	agentsMax = 100
	// networksTried bounds the search for a free network.
	networksTried = 50
	// socketPathMax is what the kernel's sockaddr_un holds.
	socketPathMax = 107
)

// plan is a cluster's shape, kept in its directory so that a later demo starts
// the same cluster.
type plan struct {
	// Network is the first three bytes of every agent's address: "127.7.3".
	Network    string `json:"network"`
	Voters     int    `json:"voters"`
	Forwarders int    `json:"forwarders"`
}

const planFile = "demo.json"

// member is one agent of a plan.
type member struct {
	name, role, host string
}

// members are the agents by name: n1 and so on may vote, f1 and so on never.
func (p plan) members() []member {
	var all []member
	for i := range p.Voters + p.Forwarders {
		m := member{name: "n" + strconv.Itoa(i+1), role: "auto", host: fmt.Sprintf("%s.%d", p.Network, i+1)}
		if i >= p.Voters {
			m.name, m.role = "f"+strconv.Itoa(i-p.Voters+1), "forwarder"
		}
		all = append(all, m)
	}
	return all
}

func (m member) at(port int) string { return net.JoinHostPort(m.host, strconv.Itoa(port)) }

// settle finds the directory's plan, or makes one, and reserves its network for
// as long as the listener is open.
func settle(dir string, voters, forwarders int) (plan, net.Listener, error) {
	want := plan{Voters: voters, Forwarders: forwarders}
	file := filepath.Join(dir, planFile)
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return plan{}, nil, err
	default:
		return resettle(file, text, want)
	}
	p, reserved, err := choose(want)
	if err != nil {
		return plan{}, nil, err
	}
	text, err = json.Marshal(p)
	if err == nil {
		err = writeWhole(file, append(text, '\n'))
	}
	if err != nil {
		_ = reserved.Close()
		return plan{}, nil, err
	}
	return p, reserved, nil
}

// resettle takes an earlier demo's plan. Its addresses are in the members' data,
// so no others will do.
func resettle(file string, text []byte, want plan) (plan, net.Listener, error) {
	var p plan
	if err := json.Unmarshal(text, &p); err != nil {
		return plan{}, nil, fmt.Errorf("%s: %w; remove it together with its directory, or choose another --dir", file, err)
	}
	if p.Voters != want.Voters || p.Forwarders != want.Forwarders {
		return plan{}, nil, fmt.Errorf("%s is of a cluster with %d voters and %d forwarders, not %d and %d; ask for these, or choose another --dir",
			file, p.Voters, p.Forwarders, want.Voters, want.Forwarders)
	}
	reserved, err := p.probe()
	if err != nil {
		return plan{}, nil, fmt.Errorf("the addresses of the cluster in %s are in use: %w; end who uses them (agents of an earlier demo, or of another), or choose another --dir",
			filepath.Dir(file), err)
	}
	return p, reserved, nil
}

// choose finds a network where nobody has a port that we want.
func choose(p plan) (plan, net.Listener, error) {
	var last error
	for range networksTried {
		var b [2]byte
		if _, err := rand.Read(b[:]); err != nil {
			return plan{}, nil, err
		}
		// Not 127.0: that is where everybody else is.
		p.Network = fmt.Sprintf("127.%d.%d", 1+int(b[0])%254, b[1])
		reserved, err := p.probe()
		if err == nil {
			return p, reserved, nil
		}
		last = err
	}
	return plan{}, nil, fmt.Errorf("no free loopback network in %d tries: %w; end other demos", networksTried, last)
}

// probe binds what the agents will bind, and lets it go but for the reservation.
func (p plan) probe() (net.Listener, error) {
	reserved, err := net.Listen("tcp", net.JoinHostPort(p.Network+".254", strconv.Itoa(reservePort)))
	if err != nil {
		return nil, err
	}
	for _, m := range p.members() {
		if err := m.probe(); err != nil {
			_ = reserved.Close()
			return nil, err
		}
	}
	return reserved, nil
}

func (m member) probe() error {
	for _, port := range []int{gossipPort, peerPort, httpPort} {
		l, err := net.Listen("tcp", m.at(port))
		if err != nil {
			return err
		}
		_ = l.Close()
	}
	c, err := net.ListenPacket("udp", m.at(gossipPort))
	if err != nil {
		return err
	}
	return c.Close()
}

// claim makes the directory ours while the file is open.
func claim(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "demo.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another demo runs in %s: %w; end it, or choose another --dir", dir, err)
	}
	return f, nil
}

// Agent is one line of cluster.json.
type Agent struct {
	Name   string `json:"name"`
	PID    int    `json:"pid"`
	Socket string `json:"socket"`
	Admin  string `json:"admin"`
	HTTP   string `json:"http"`
	Gossip string `json:"gossip"`
	Peer   string `json:"peer"`
	// Command starts it again.
	Command []string `json:"command"`
}

// Cluster is what cluster.json has.
type Cluster struct {
	Agents []Agent `json:"agents"`
}

// describe lays one agent out under dir.
func (p plan) describe(dir, sidecar string, m member, extra []string) Agent {
	a := Agent{
		Name: m.name, Socket: filepath.Join(dir, m.name+".sock"), Admin: filepath.Join(dir, m.name+".admin.sock"),
		HTTP: m.at(httpPort), Gossip: m.at(gossipPort), Peer: m.at(peerPort),
	}
	a.Command = []string{sidecar, "--name", m.name, "--data-dir", filepath.Join(dir, m.name+".data"),
		"--socket", a.Socket, "--admin-socket", a.Admin, "--bind", m.host,
		"--gossip-port", strconv.Itoa(gossipPort), "--peer-port", strconv.Itoa(peerPort), "--http", a.HTTP,
		"--expect", strconv.Itoa(p.Voters), "--role", m.role, "--log-format", "json", "--log-level", "info"}
	for _, other := range p.members() {
		if other != m {
			a.Command = append(a.Command, "--join", other.at(gossipPort))
		}
	}
	a.Command = append(a.Command, extra...)
	return a
}

// fits refuses paths that no socket can have, before anything is started.
func fits(dir string, agents int) error {
	longest := filepath.Join(dir, "n"+strconv.Itoa(agents)+".admin.sock")
	if len(longest) > socketPathMax {
		return fmt.Errorf("%s would be the path of a socket and has %d bytes, the kernel takes %d; choose a --dir that is shorter by %d",
			longest, len(longest), socketPathMax, len(longest)-socketPathMax)
	}
	return nil
}

// writeWhole makes a file appear with all of its content.
func writeWhole(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// withoutOurs leaves out what would configure an agent behind its flags' back.
func withoutOurs(environ []string) []string {
	var kept []string
	for _, v := range environ {
		if !strings.HasPrefix(v, "RAFTLOCK_") {
			kept = append(kept, v)
		}
	}
	return kept
}
