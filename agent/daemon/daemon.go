package daemon

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	"github.com/raftlock/raftlock/agent"
	"github.com/raftlock/raftlock/agent/bootstrap"
	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/gossip"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/telemetry/key"
	"github.com/raftlock/raftlock/uds"
	"github.com/raftlock/raftlock/uds/limit"
)

const (
	// transferTimeout bounds how long a stopping leader hands over.
	transferTimeout = 2 * time.Second
	// devStill: nobody else can come into view of one host alone.
	devStill = 100 * time.Millisecond
)

// Daemon is an agent with all that it needs of its host.
type Daemon struct {
	opt    Options
	log    *slog.Logger
	data   *dataDir
	kernel *kernel
	peer   net.Listener
	mux    *link.Mux
	// client reaches the peer ports of others.
	client *link.Client
	pool   *gossip.Pool
	agent  *agent.Agent
	api    *agent.API
	app    *uds.Server
	admin  *uds.Server
	http   *httpServer // nil: none

	// undo closes what Open took, newest first; Run closes it by itself.
	undo []func()
}

// Open takes the data directory, the ports and the sockets. What it took it
// gives back when it fails. It starts nothing; Run must follow.
func Open(opt Options) (_ *Daemon, err error) {
	if err := opt.Validate(); err != nil {
		opt.closeActivated()
		return nil, err
	}
	d := &Daemon{opt: opt, log: opt.Log, undo: []func(){opt.closeActivated}}
	defer func() {
		if err != nil {
			d.giveBack()
		}
	}()
	for _, take := range []func() error{d.openData, d.openPeer, d.openAgent, d.openSockets, d.openHTTP} {
		if err := take(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *Daemon) giveBack() {
	for i := len(d.undo) - 1; i >= 0; i-- {
		d.undo[i]()
	}
	d.undo = nil
}

func (d *Daemon) openData() error {
	data, err := openDataDir(d.opt.DataDir)
	if err != nil {
		return err
	}
	d.data = data
	d.undo = append(d.undo, func() { _ = data.close() })
	return nil
}

func (d *Daemon) openPeer() error {
	at := net.JoinHostPort(d.opt.Bind, strconv.Itoa(d.opt.PeerPort))
	l, err := net.Listen("tcp", at)
	if err != nil {
		return fmt.Errorf("listen for peers at %s (change --bind or --peer-port, or stop who has it): %w", at, err)
	}
	d.peer = l
	d.undo = append(d.undo, func() { _ = l.Close() })
	return nil
}

func (d *Daemon) openAgent() error {
	id, err := bootstrap.LoadServerID(d.data, rand.Reader)
	if err != nil {
		return fmt.Errorf("server id in %s: %w", d.opt.DataDir, err)
	}
	incarnation, err := drawIncarnation()
	if err != nil {
		return err
	}
	address := d.opt.advertised(d.peer.Addr().(*net.TCPAddr).Port)
	if d.pool, err = d.newPool(address, incarnation); err != nil {
		return err
	}
	if d.kernel, err = newKernel(); err != nil {
		return err
	}
	d.mux = link.NewMux(d.peer, id)
	dialer := &net.Dialer{}
	d.client = link.NewClient(link.ClientConfig{Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", addr)
	}})
	d.undo = append(d.undo, d.client.Close)

	cfg := agent.Config{
		Name: d.opt.Name, Address: address, Incarnation: incarnation,
		Clock: d.kernel.clock, Wall: time.Now, Rand: rand.Reader,
		Network: d.client, Gossip: poolView{d.pool}, Store: d.data,
		Open: d.openStores, Transport: d.transport(dialer),
		Bootstrap: bootstrap.DefaultConfig(), Consensus: consensus.DefaultConfig(),
		Gone: d.kernel.gone, Log: d.log,
		TracerProvider: d.opt.Telemetry.TracerProvider(), Metrics: d.opt.Telemetry.Instruments(),
	}
	limiter := limit.New(d.opt.limits())
	cfg.Admit = limiter.Admit
	cfg.Bootstrap.Expect, cfg.Bootstrap.Initial = d.opt.Expect, d.opt.Initial
	cfg.Bootstrap.Forwarder = d.opt.Role == RoleForwarder
	if d.opt.Dev {
		cfg.Bootstrap.Still = devStill
	}
	cfg.Consensus.HeartbeatTimeout = heartbeatsMissed * d.opt.HeartbeatInterval
	cfg.Consensus.ElectionTimeout = d.opt.ElectionTimeout
	// Nothing is proven by it, so it may be as long as Raft allows: a leader on
	// a busy host that gave up sooner would only cost an election.
	cfg.Consensus.LeaderLease = cfg.Consensus.HeartbeatTimeout
	cfg.Consensus.CommitTimeout = d.opt.HeartbeatInterval / 2
	cfg.Consensus.SnapshotInterval = d.opt.SnapshotInterval
	cfg.Consensus.ApplyBound = max(cfg.Consensus.ApplyBound, 3*(cfg.Consensus.HeartbeatTimeout+cfg.Consensus.ElectionTimeout))
	if d.agent, err = agent.New(cfg); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	d.api = agent.NewAPI(d.agent, agent.APIConfig{
		Peer: d.kernel.peer, Identity: identity, Limiter: limiter,
		Work: limit.NewTurns(turns()), Asked: limit.NewTurns(turns()), Seen: d.seen, Version: d.opt.Version, Log: d.log,
	})
	return nil
}

func drawIncarnation() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("draw an incarnation: %w", err)
	}
	return binary.BigEndian.Uint64(b[:]) | 1, nil // 0 means none
}

func (d *Daemon) openStores() (*agent.Stores, error) {
	s, err := consensus.OpenStores(d.data.raft(), d.log)
	if err != nil {
		return nil, err
	}
	return &agent.Stores{Logs: s.Logs, Stable: s.Stable, Snapshots: s.Snapshots, Close: s.Close}, nil
}

// transport is Raft's, on its half of the peer port.
func (d *Daemon) transport(dialer *net.Dialer) func(raft.ServerID) raft.Transport {
	dial := func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }
	return func(raft.ServerID) raft.Transport {
		o := consensus.DefaultTransportOptions()
		o.Log = d.log
		o.Address = func(id raft.ServerID) (string, bool) { return d.pool.Address(string(id)) }
		return consensus.NewTransport(&raftStream{Listener: d.mux.Raft(), addr: d.opt.advertised(d.peer.Addr().(*net.TCPAddr).Port), dial: dial}, o)
	}
}

func (d *Daemon) openSockets() (err error) {
	if d.app, err = uds.Listen(uds.Config{
		Path: unlessActivated(d.opt.Socket, d.opt.AppListener), Listener: d.opt.AppListener,
		Mode: 0o660, Group: d.opt.SocketGroup, Kernel: d.kernel.Kernel, Log: d.log,
		GRPC:     d.opt.Telemetry.GRPC(),
		Register: func(g *grpc.Server) { api.RegisterRaftLockServer(g, d.api) },
		HTTP:     d.jsonAPI(false),
	}); err != nil {
		return fmt.Errorf("application socket (--socket): %w", err)
	}
	d.undo = append(d.undo, func() { _ = d.app.Close() })
	if d.admin, err = uds.Listen(uds.Config{
		Path: unlessActivated(d.opt.AdminSocket, d.opt.AdminListener), Listener: d.opt.AdminListener,
		Mode: 0o600, Kernel: d.kernel.Kernel, Log: d.log,
		GRPC:     d.opt.Telemetry.GRPC(),
		Register: func(g *grpc.Server) { api.RegisterAdminServer(g, agent.NewAdmin(d.api)) },
	}); err != nil {
		return fmt.Errorf("administrator's socket (--admin-socket): %w", err)
	}
	d.undo = append(d.undo, func() { _ = d.admin.Close() })
	return nil
}

// unlessActivated is the path to make a socket at; none where one was handed in.
func unlessActivated(path string, handedIn net.Listener) string {
	if handedIn != nil {
		return ""
	}
	return path
}

func (d *Daemon) openHTTP() error {
	if d.opt.HTTP == "" {
		return nil
	}
	l, err := net.Listen("tcp", d.opt.HTTP)
	if err != nil {
		return fmt.Errorf("listen for HTTP at %s (change --http, or stop who has it): %w", d.opt.HTTP, err)
	}
	d.http = serverOf(l, d.jsonAPI(true), d.log)
	return nil
}

// part is one thing that Run runs.
type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// Run is the agent until ctx ends (then it returns nil), or until a part of it
// fails. It is called once, and gives back all that Open took.
func (d *Daemon) Run(ctx context.Context) error {
	ctx, failed := context.WithCancel(ctx)
	defer failed()
	// A part's context ends by its own cancel: ctx's end begins the order below.
	begin := func(name string, run func(context.Context) error) *part {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		p := &part{name: name, cancel: cancel, done: make(chan struct{})}
		go func() {
			defer close(p.done)
			if err := run(own); err != nil && own.Err() == nil {
				p.err = fmt.Errorf("%s: %w", name, err)
			} else if err != nil {
				d.log.Warn("did not end cleanly", "part", name, "error", err)
			}
			failed()
		}()
		return p
	}
	network := []*part{
		begin("gossip", d.pool.Run),
		begin("peer port", d.mux.Run),
		begin("peer service", func(ctx context.Context) error {
			return link.Serve(ctx, d.mux.Links(), d.agent, link.ServerConfig{})
		}),
	}
	core := []*part{
		begin("agent", d.agent.Run),
		begin("application socket", d.app.Run),
		begin("administrator's socket", d.admin.Run),
	}
	if d.http != nil {
		core = append(core, begin("HTTP", d.http.run))
		d.log.Info("serving HTTP", key.Address, d.http.listener.Addr().String(), "writes", d.opt.HTTPWrites)
	}
	telling := []*part{begin("health", d.report), begin("watchdog", d.guard), begin("status", d.show)}
	d.log.Info("started", "name", d.opt.Name, "version", d.opt.Version, "socket", d.app.Addr(),
		"peer", d.opt.advertised(d.peer.Addr().(*net.TCPAddr).Port), key.Node, d.agent.ServerID())
	d.tell("READY=1")

	<-ctx.Done()
	d.log.Info("stopping")
	d.tell("STOPPING=1")
	end(telling)
	d.handOver()
	end(core)
	d.api.Wait()
	d.client.Close()
	for i := len(network) - 1; i >= 0; i-- {
		end(network[i : i+1])
	}
	var errs []error
	for _, p := range slices.Concat(network, core, telling) {
		errs = append(errs, p.err)
	}
	errs = append(errs, d.data.close())
	d.log.Info("stopped")
	return errors.Join(errs...)
}

func end(parts []*part) {
	for _, p := range parts {
		p.cancel()
	}
	for _, p := range parts {
		<-p.done
	}
}

// handOver gives leadership to another voter, so that nobody waits for an
// election. It is a courtesy: an agent alone has nobody to give it to.
func (d *Daemon) handOver() {
	node := d.agent.Node()
	if node == nil || !d.agent.Leading() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), transferTimeout) // a cleanup, bounded
	defer cancel()
	if err := node.Transfer(ctx, "", ""); err != nil {
		d.log.Info("leadership not handed over", "error", err)
	}
}

// raftStream is Raft's half of the peer port.
type raftStream struct {
	net.Listener
	addr string
	dial link.DialFunc
}

// Addr is what others reach this server at: Raft tells it to them.
func (r *raftStream) Addr() net.Addr { return advertised(r.addr) }

func (r *raftStream) Dial(server raft.ServerID, addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout) // the library has no context
	defer cancel()
	return link.DialRaft(ctx, r.dial, addr, string(server))
}

type advertised string

func (advertised) Network() string  { return "tcp" }
func (a advertised) String() string { return string(a) }
