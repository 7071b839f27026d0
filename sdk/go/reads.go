package raftlock

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// LockInfo is what is known of one lock. One that nobody holds or waits for is
// not kept by the cluster: Held is false then, and all but the name empty.
type LockInfo struct {
	Name string `json:"name"`
	Held bool   `json:"held"`
	// Token is the fencing token of the present grant; 0: not held.
	Token uint64 `json:"token"`
	// Owner is "uid:1000@web-1" of a session; of plain requests the name their caller
	// chose.
	Owner string `json:"owner"`
	// Agent is where the holder's session is attached.
	Agent string `json:"agent"`
	// Session is the holder's session id in hex; empty for plain requests.
	Session string `json:"session"`
	Waiters uint64 `json:"waiters"`
	// Revoked: marked for giving up, and still held.
	Revoked  bool              `json:"revoked"`
	Metadata map[string]string `json:"metadata"`
	// TTL is that of the holder's session. In JSON it is text, in seconds:
	// "60s".
	TTL time.Duration `json:"ttl"`
	// Stale: a replica told it that may be behind.
	Stale bool `json:"stale"`
}

// lockInfo has LockInfo's fields without its methods.
type lockInfo LockInfo

type lockInfoJSON struct {
	lockInfo
	TTL string `json:"ttl"`
}

// MarshalJSON writes TTL as text and no metadata as {}.
func (l LockInfo) MarshalJSON() ([]byte, error) {
	if l.Metadata == nil {
		l.Metadata = map[string]string{}
	}
	return json.Marshal(lockInfoJSON{lockInfo: lockInfo(l), TTL: secondsText(l.TTL)})
}

// secondsText is a time in seconds, "30s" or "0.2s", as the agent's JSON over
// HTTP has it.
func secondsText(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (l *LockInfo) UnmarshalJSON(text []byte) error {
	var read lockInfoJSON
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	ttl, err := time.ParseDuration(read.TTL)
	if err != nil {
		return fmt.Errorf("ttl: %w", err)
	}
	*l = LockInfo(read.lockInfo)
	l.TTL = ttl
	return nil
}

// Filter chooses locks; every condition that is given must be met.
type Filter struct {
	Prefix string
	// Pattern: "*" matches any run of characters, "?" one.
	Pattern string
	Owner   string
	// Contested: with waiters only.
	Contested bool
	// Metadata: the holder's has these, among others.
	Metadata map[string]string
	// After: the locks that come after this name.
	After string
	// Limit bounds a page; 0: as many as the agent gives at once.
	Limit int
}

// Page is a part of a list, by name.
type Page struct {
	Locks []LockInfo `json:"locks"`
	// Next is the After of the next page; empty: this was the last.
	Next  string `json:"next"`
	Stale bool   `json:"stale"`
	// Index is the log's, as it was read.
	Index uint64 `json:"index"`
}

// Status is what one agent knows of itself and of its cluster.
type Status struct {
	Agent    string `json:"agent"`
	Version  string `json:"version"`
	ServerID string `json:"server_id"`
	// ClusterID is empty while the agent looks for a cluster; Doing says what it
	// waits for.
	ClusterID string `json:"cluster_id"`
	Doing     string `json:"doing"`
	// Reach is "OK", "NO_LEADER" or "NO_QUORUM".
	Reach      string `json:"reach"`
	LeaderID   string `json:"leader_id"`
	LeaderName string `json:"leader_name"`
	Term       uint64 `json:"term"`
	// QuorumSize is how many voters make a majority; 0: not known.
	QuorumSize uint32 `json:"quorum_size"`
	// HasQuorum: a leader proved just now that it leads.
	HasQuorum bool `json:"has_quorum"`
	// Sessions attached to this agent, and what they hold and wait for.
	Sessions uint64 `json:"sessions"`
	Holds    uint64 `json:"holds"`
	Waits    uint64 `json:"waits"`
	// Nodes are all agents in view, this one included, by name.
	Nodes []Node `json:"nodes"`
	// Behind is how many entries of the log this voter lacks while it catches up; 0:
	// it has caught up, or is no voter.
	Behind uint64 `json:"behind"`
}

// Node is one agent of the cluster.
type Node struct {
	Name     string `json:"name"`
	ServerID string `json:"server_id"`
	Address  string `json:"address"`
	// Role is "voter", "standby", "forwarder", "fresh" (of no cluster yet), or
	// "unknown" while no leader tells.
	Role   string `json:"role"`
	Leader bool   `json:"leader"`
	// Alive: gossip hears of it.
	Alive bool `json:"alive"`
}

type readConfig struct{ stale bool }

// ReadOption changes how a read is served.
type ReadOption func(*readConfig)

// Stale lets any replica answer, perhaps an old one, also without a quorum.
// Without it the answer is linearizable: a leader proved, after the question
// was asked, that it still led.
func Stale() ReadOption { return func(c *readConfig) { c.stale = true } }

func readOptions(opts []ReadOption) (c readConfig) {
	for _, o := range opts {
		o(&c)
	}
	return c
}

// Get reads one lock. A name that nobody holds is no error: Held is false.
// Reads wait for the agent, and for a leader, until ctx ends; the error then
// names what stood in the way, and is ErrNoQuorum or ErrNoLeader too where the
// agent told so. Other errors: ErrInvalid, ErrDenied, ErrRateLimited, ErrClosed.
// Repeating is always safe.
func (c *Client) Get(ctx context.Context, name string, opts ...ReadOption) (LockInfo, error) {
	if err := boundedName(name); err != nil {
		return LockInfo{}, fmt.Errorf("get %q: %w", name, err)
	}
	var resp *raftlockv1.GetResponse
	req := &raftlockv1.GetRequest{Lock: name, Stale: readOptions(opts).stale}
	err := c.read(ctx, fmt.Sprintf("get %q", name), func(ctx context.Context, agent raftlockv1.RaftLockClient) (err error) {
		resp, err = agent.Get(ctx, req, grpc.WaitForReady(true))
		return err
	})
	if err != nil {
		return LockInfo{}, err
	}
	info := infoOf(resp.GetLock(), resp.GetStale())
	info.Name = name
	return info, nil
}

// List reads a page of the locks that are held or waited for, by name. Errors
// and waiting are Get's. Each page is read by itself: what changes between two
// pages shows in the later one.
func (c *Client) List(ctx context.Context, f Filter, opts ...ReadOption) (Page, error) {
	req, err := f.request(readOptions(opts))
	if err != nil {
		return Page{}, fmt.Errorf("list locks: %w", err)
	}
	var resp *raftlockv1.ListResponse
	err = c.read(ctx, "list locks", func(ctx context.Context, agent raftlockv1.RaftLockClient) (err error) {
		resp, err = agent.List(ctx, req, grpc.WaitForReady(true))
		return err
	})
	if err != nil {
		return Page{}, err
	}
	page := Page{Locks: []LockInfo{}, Next: resp.GetNext(), Stale: resp.GetStale(), Index: resp.GetIndex()}
	for _, l := range resp.GetLocks() {
		page.Locks = append(page.Locks, infoOf(l, page.Stale))
	}
	return page, nil
}

// Locks goes through all locks that meet f, page by page; f.Limit bounds a
// page, not the whole. An error is the last that is yielded.
func (c *Client) Locks(ctx context.Context, f Filter, opts ...ReadOption) iter.Seq2[LockInfo, error] {
	return func(yield func(LockInfo, error) bool) {
		for f := f; ; {
			page, err := c.List(ctx, f, opts...)
			if err == nil && page.Next != "" && page.Next <= f.After {
				err = fmt.Errorf("list locks: the page after %q leads back to %q", f.After, page.Next)
			}
			if err != nil {
				yield(LockInfo{}, err)
				return
			}
			for _, l := range page.Locks {
				if !yield(l, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			f.After = page.Next
		}
	}
}

// Status asks the agent for itself and its cluster; it answers without a
// quorum too. Errors and waiting are Get's.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var resp *raftlockv1.StatusResponse
	err := c.read(ctx, "status", func(ctx context.Context, agent raftlockv1.RaftLockClient) (err error) {
		resp, err = agent.Status(ctx, &raftlockv1.StatusRequest{}, grpc.WaitForReady(true))
		return err
	})
	if err != nil {
		return Status{}, err
	}
	return statusOf(resp), nil
}

func (f Filter) request(c readConfig) (*raftlockv1.ListRequest, error) {
	if f.Limit < 0 || f.Limit > math.MaxInt32 {
		return nil, invalid("a limit of %d", f.Limit)
	}
	texts := []string{f.Prefix, f.Pattern, f.Owner, f.After}
	for k, v := range f.Metadata {
		texts = append(texts, k, v)
	}
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return nil, invalid("%q is not UTF-8", text)
		}
	}
	return &raftlockv1.ListRequest{Prefix: f.Prefix, Pattern: f.Pattern, Owner: f.Owner, Contested: f.Contested,
		Metadata: f.Metadata, After: f.After, Limit: uint32(f.Limit), Stale: c.stale}, nil
}

func infoOf(l *raftlockv1.LockInfo, stale bool) LockInfo {
	h := l.GetHolder()
	return LockInfo{
		Name: l.GetName(), Held: l.GetHeld(), Token: h.GetToken(), Owner: h.GetOwner(), Agent: h.GetAgent(),
		Session: hex.EncodeToString(h.GetSession()), Waiters: l.GetWaiters(), Revoked: l.GetRevoked(),
		Metadata: l.GetMetadata(), TTL: reading(l.GetTtlNanos()), Stale: stale,
	}
}

func statusOf(r *raftlockv1.StatusResponse) Status {
	s := Status{
		Agent: r.GetAgent(), Version: r.GetVersion(), ServerID: r.GetServerId(), ClusterID: r.GetClusterId(),
		Doing: r.GetDoing(), Reach: plainName(r.GetReach(), "REASON_"), LeaderID: r.GetLeaderId(),
		LeaderName: r.GetLeaderName(), Term: r.GetTerm(), QuorumSize: r.GetQuorumSize(), HasQuorum: r.GetHasQuorum(),
		Sessions: r.GetSessions(), Holds: r.GetHolds(), Waits: r.GetWaits(), Nodes: []Node{}, Behind: r.GetBehind(),
	}
	for _, n := range r.GetNodes() {
		s.Nodes = append(s.Nodes, Node{Name: n.GetName(), ServerID: n.GetServerId(), Address: n.GetAddress(),
			Role: cmp.Or(strings.ToLower(plainName(n.GetRole(), "ROLE_")), "unknown"), Leader: n.GetLeader(), Alive: n.GetAlive()})
	}
	return s
}

// plainName is an enum's name without its prefix; the unspecified has none.
func plainName(e fmt.Stringer, prefix string) string {
	name := strings.TrimPrefix(e.String(), prefix)
	if name == "UNSPECIFIED" {
		return ""
	}
	return name
}
