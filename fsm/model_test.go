package fsm

import (
	"bytes"
	"cmp"
	"slices"
	"sort"

	"google.golang.org/protobuf/proto"

	"github.com/raftlock/raftlock/fsm/command"
)

// model is the state machine as slowly and as obviously as can be: one list of
// claims that is searched from its start, no bounds, no snapshots, no sharing.
// It was written from the design, not from the code.
type model struct {
	term     uint64
	cluster  string
	version  uint32
	token    uint64
	attached uint64
	sessions map[ID]*modelSession
	// claims in the order of grants to be; holds have a token.
	claims []*modelClaim
	events []Event
}

type modelSession struct {
	id          ID
	att, inc    uint64
	agent       string
	ttl         uint64
	secret      []byte
	lease       bool
	processes   []Process
	mark        uint64
	acked       map[uint64]bool
	done        map[uint64]modelDone
	identity    string
	owner, lock string // of a plain one
	made        uint64
}

type modelDone struct {
	kind   string // acquire, open, resume, ttl, release
	result *command.Result
	gone   command.Gone
	lock   string
}

type modelClaim struct {
	session  ID
	seq      uint64
	lock     string
	priority int32
	token    uint64
	revoked  bool
	requests []string
	claimed  bool
}

func newModel() *model { return &model{version: 1, sessions: map[ID]*modelSession{}} }

func (m *model) apply(logTerm, entryTerm uint64, cs []*command.Command) (results []*command.Result, events [][]Event) {
	if logTerm != entryTerm {
		return nil, nil
	}
	for _, c := range cs {
		m.events = nil
		results = append(results, m.command(logTerm, c))
		events = append(events, m.events)
	}
	return results, events
}

func code(c command.Code) *command.Result { return &command.Result{Code: c} }

func (m *model) command(term uint64, c *command.Command) *command.Result {
	if c.Kind == nil {
		return code(command.Code_CODE_UNKNOWN_KIND)
	}
	if command.Valid(c) != "" {
		return code(command.Code_CODE_INVALID)
	}
	switch k := c.Kind.(type) {
	case *command.Command_Establish:
		if m.cluster != "" && m.cluster != k.Establish.ClusterId {
			return code(command.Code_CODE_WRONG_CLUSTER)
		}
		m.cluster, m.term = k.Establish.ClusterId, term
		return code(command.Code_CODE_OK)
	case *command.Command_JumpTokens:
		m.token = max(m.token+1<<40, k.JumpTokens.UnixSeconds*(1<<21))
		m.attached = max(m.attached+1<<40, k.JumpTokens.UnixSeconds*(1<<21))
		return code(command.Code_CODE_OK)
	case *command.Command_SetVersion:
		m.version = max(m.version, k.SetVersion.Version)
		return code(command.Code_CODE_OK)
	case *command.Command_Revoke:
		return m.revoke(k.Revoke)
	case *command.Command_PlainAcquire, *command.Command_PlainCancel, *command.Command_PlainRenew, *command.Command_PlainRelease:
		return m.plain(c)
	}
	x := m.sessions[ID(c.Session)]
	switch k := c.Kind.(type) {
	case *command.Command_Open:
		return m.open(x, c, k.Open)
	case *command.Command_Resume, *command.Command_Join:
		var secret []byte
		if r := c.GetResume(); r != nil {
			secret = r.SecretHash
		} else {
			secret = c.GetJoin().SecretHash
		}
		if x == nil || x.owner != "" {
			return code(command.Code_CODE_NO_SESSION)
		}
		if !bytes.Equal(secret, x.secret) {
			return code(command.Code_CODE_WRONG_SECRET)
		}
		if c.GetJoin() != nil && c.Attachment != 0 && c.Attachment != x.att {
			return code(command.Code_CODE_SUPERSEDED)
		}
	default:
		if x == nil {
			return code(command.Code_CODE_NO_SESSION)
		}
		if x.att != c.Attachment {
			return code(command.Code_CODE_SUPERSEDED)
		}
		if x.owner != "" {
			_, end := c.Kind.(*command.Command_End)
			_, release := c.Kind.(*command.Command_Release)
			if !end && (!release || c.Seq != 0) {
				return code(command.Code_CODE_INVALID)
			}
		}
	}
	if x.owner == "" {
		m.ack(x, c)
	}
	if r := m.again(x, c); r != nil {
		return r
	}
	r, kind := m.effect(x, c)
	if kind != "" && c.Seq > x.mark {
		x.done[c.Seq] = modelDone{kind: kind, result: r}
	}
	return r
}

func (m *model) open(x *modelSession, c *command.Command, o *command.Open) *command.Result {
	if x != nil {
		switch d := x.done[c.Seq]; {
		case x.owner != "":
			return code(command.Code_CODE_EXISTS)
		case !bytes.Equal(x.secret, o.SecretHash):
			return code(command.Code_CODE_WRONG_SECRET)
		case d.kind == "open" && !x.acked[c.Seq]:
			return x.once(d)
		}
		return code(command.Code_CODE_EXISTS)
	}
	m.attached++
	x = &modelSession{
		id: ID(c.Session), att: m.attached, inc: o.Agent.Incarnation, agent: o.Agent.Name, identity: o.Identity, ttl: o.TtlNanos,
		secret: o.SecretHash, lease: o.LeaseOnExit, acked: map[uint64]bool{}, done: map[uint64]modelDone{},
	}
	if o.Process != nil {
		x.processes = []Process{processOf(o.Process)}
		x.processes[0].Opener = true
	}
	m.sessions[x.id] = x
	m.ack(x, c)
	m.tell(x, Event{Kind: EventOpened, TTLNanos: x.ttl})
	r := &command.Result{Code: command.Code_CODE_OK, Attachment: x.att, Incarnation: x.inc, TtlNanos: x.ttl}
	if c.Seq > x.mark && !x.acked[c.Seq] {
		x.done[c.Seq] = modelDone{kind: "open", result: r}
	}
	return r
}

func (m *model) ack(x *modelSession, c *command.Command) {
	x.mark = max(x.mark, c.AckMark)
	for _, s := range c.AckAbove {
		if s > x.mark {
			x.acked[s] = true
		}
	}
	for s := range x.acked {
		if s <= x.mark {
			delete(x.acked, s)
		}
	}
	for s := range x.done {
		if s <= x.mark || x.acked[s] {
			delete(x.done, s)
		}
	}
}

func kindName(c *command.Command) string {
	switch c.Kind.(type) {
	case *command.Command_Acquire:
		return "acquire"
	case *command.Command_Resume:
		return "resume"
	case *command.Command_SetTtl:
		return "ttl"
	case *command.Command_Release:
		return "release"
	}
	return ""
}

// once is the answer of once, with the TTL that is in force.
func (x *modelSession) once(d modelDone) *command.Result {
	r := proto.CloneOf(d.result)
	if r.TtlNanos != 0 {
		r.TtlNanos = x.ttl
	}
	return r
}

// again is I5: what a sequence that is not new is answered.
func (m *model) again(x *modelSession, c *command.Command) *command.Result {
	if c.Seq == 0 {
		return nil
	}
	claim := m.find(x.id, c.Seq)
	if claim != nil && kindName(c) == "acquire" {
		return okWith(m.standing(claim))
	}
	if c.Seq <= x.mark || x.acked[c.Seq] {
		return code(command.Code_CODE_STALE_SEQUENCE)
	}
	d, used := x.done[c.Seq]
	switch {
	case claim != nil, used && d.kind != kindName(c):
		return code(command.Code_CODE_USED_UP)
	case used && d.kind == "acquire":
		r := okWith(m.seqStanding(x, c.Seq))
		if d.gone == command.Gone_GONE_REFUSED {
			r.Code, r.Holder = command.Code_CODE_HELD, m.holder(d.lock)
		}
		return r
	case used:
		return x.once(d)
	}
	return nil
}

func okWith(st *command.Standing) *command.Result {
	return &command.Result{Code: command.Code_CODE_OK, Standings: []*command.Standing{st}}
}

func (m *model) effect(x *modelSession, c *command.Command) (r *command.Result, kind string) {
	switch k := c.Kind.(type) {
	case *command.Command_Resume:
		e := Event{Kind: EventResumed, WasAttachment: x.att, WasIncarnation: x.inc, TTLNanos: x.ttl}
		m.attached++
		x.att, x.inc, x.agent = m.attached, k.Resume.Agent.Incarnation, k.Resume.Agent.Name
		m.tell(x, e)
		return &command.Result{Code: command.Code_CODE_OK, Attachment: x.att, Incarnation: x.inc, TtlNanos: x.ttl}, "resume"
	case *command.Command_SetTtl:
		x.ttl = k.SetTtl.TtlNanos
		m.tell(x, Event{Kind: EventTTL, TTLNanos: x.ttl})
		return &command.Result{Code: command.Code_CODE_OK, TtlNanos: x.ttl}, "ttl"
	case *command.Command_Join:
		m.join(x, processOf(k.Join.Process))
		return &command.Result{Code: command.Code_CODE_OK, Attachment: x.att, Incarnation: x.inc, TtlNanos: x.ttl}, ""
	case *command.Command_Leave:
		at := slices.IndexFunc(x.processes, func(p Process) bool { return p.ID == k.Leave.Process })
		if at < 0 {
			return code(command.Code_CODE_NO_PROCESS), ""
		}
		x.processes = slices.Delete(slices.Clone(x.processes), at, at+1)
		if len(x.processes) == 0 && !x.lease {
			m.end(x, command.EndReason_END_REASON_EXITED)
		}
	case *command.Command_End:
		m.end(x, k.End.Reason)
	case *command.Command_Acquire:
		return m.acquire(x, c.Seq, k.Acquire), ""
	case *command.Command_Release:
		return m.release(x, c.Seq, k.Release), kindIf(c.Seq != 0, "release")
	case *command.Command_Cancel:
		return m.cancel(x, k.Cancel.Target), ""
	case *command.Command_Reconcile:
		return m.reconcile(x, k.Reconcile), ""
	}
	return code(command.Code_CODE_OK), ""
}

func kindIf(yes bool, kind string) string {
	if yes {
		return kind
	}
	return ""
}

func (m *model) join(x *modelSession, p Process) {
	for _, q := range x.processes {
		if q.ID == p.ID {
			return
		}
	}
	for i, q := range x.processes {
		if q.PID == p.PID && q.PID != 0 && q.StartTicks == p.StartTicks && q.StartTicks != 0 && q.BootID == p.BootID && q.BootID != "" &&
			q.PIDNamespace == p.PIDNamespace && q.InitialNamespace == p.InitialNamespace {
			x.processes[i].ID = p.ID
			return
		}
	}
	x.processes = append(x.processes, p)
}

func (m *model) tell(x *modelSession, e Event) {
	e.Session = x.id
	if e.Kind != EventTTL && e.Kind != EventRenewed || x.owner == "" {
		e.Attachment, e.Incarnation = x.att, x.inc
	}
	m.events = append(m.events, e)
}

func (m *model) find(id ID, seq uint64) *modelClaim {
	for _, c := range m.claims {
		if c.session == id && c.seq == seq {
			return c
		}
	}
	return nil
}

func (m *model) holderClaim(lock string) *modelClaim {
	for _, c := range m.claims {
		if c.lock == lock && c.token != 0 {
			return c
		}
	}
	return nil
}

func (m *model) queueOf(lock string) (waits []*modelClaim) {
	for _, c := range m.claims {
		if c.lock == lock && c.token == 0 {
			waits = append(waits, c)
		}
	}
	return waits
}

func (m *model) holder(lock string) *command.Holder {
	c := m.holderClaim(lock)
	if c == nil {
		return nil
	}
	x := m.sessions[c.session]
	return &command.Holder{Session: x.id[:], Owner: cmp.Or(x.owner, x.identity), Agent: x.agent, Token: c.token}
}

func (m *model) standing(c *modelClaim) *command.Standing {
	if c.token != 0 {
		return &command.Standing{Seq: c.seq, State: command.Standing_STATE_HELD, Lock: c.lock, Token: c.token, Revoked: c.revoked}
	}
	at := slices.Index(m.queueOf(c.lock), c)
	return &command.Standing{Seq: c.seq, State: command.Standing_STATE_WAITING, Lock: c.lock, Position: uint64(at + 1)}
}

func (m *model) seqStanding(x *modelSession, seq uint64) *command.Standing {
	if c := m.find(x.id, seq); c != nil {
		return m.standing(c)
	}
	d, used := x.done[seq]
	if used || seq <= x.mark || x.acked[seq] {
		return &command.Standing{Seq: seq, State: command.Standing_STATE_GONE, Gone: d.gone, Lock: d.lock}
	}
	return &command.Standing{Seq: seq, State: command.Standing_STATE_UNSEEN}
}

// claim enters a new claim: behind all that come before it by priority.
func (m *model) claim(c *modelClaim) {
	if m.holderClaim(c.lock) == nil {
		m.token++
		c.token = m.token
	}
	m.claims = append(m.claims, c)
	sort.SliceStable(m.claims, func(i, j int) bool { return m.claims[i].priority > m.claims[j].priority })
}

func (m *model) acquire(x *modelSession, seq uint64, a *command.Acquire) *command.Result {
	if a.Try && m.holderClaim(a.Lock) != nil {
		x.done[seq] = modelDone{kind: "acquire", gone: command.Gone_GONE_REFUSED, lock: a.Lock}
		r := okWith(m.seqStanding(x, seq))
		r.Code, r.Holder = command.Code_CODE_HELD, m.holder(a.Lock)
		return r
	}
	c := &modelClaim{session: x.id, seq: seq, lock: a.Lock, priority: a.Priority}
	m.claim(c)
	return okWith(m.standing(c))
}

// drop takes a claim out, remembers why, and ends a plain session with its last.
func (m *model) drop(c *modelClaim, why command.Gone, reason command.EndReason) {
	m.claims = slices.DeleteFunc(m.claims, func(o *modelClaim) bool { return o == c })
	x := m.sessions[c.session]
	if x.owner == "" {
		if c.seq > x.mark && !x.acked[c.seq] {
			x.done[c.seq] = modelDone{kind: "acquire", gone: why, lock: c.lock}
		}
	} else if !slices.ContainsFunc(m.claims, func(o *modelClaim) bool { return o.session == x.id }) {
		delete(m.sessions, x.id)
		m.tell(x, Event{Kind: EventEnded, Reason: reason})
	}
	if c.token != 0 {
		m.promote(c.lock)
	}
}

func (m *model) promote(lock string) {
	q := m.queueOf(lock)
	if len(q) == 0 || m.holderClaim(lock) != nil {
		return
	}
	c := q[0]
	m.token++
	c.token = m.token
	x := m.sessions[c.session]
	if x.owner != "" {
		m.claims = slices.DeleteFunc(m.claims, func(o *modelClaim) bool {
			if o == c || o.session != x.id {
				return false
			}
			c.requests = append(c.requests, o.requests...)
			return true
		})
	}
	m.tell(x, Event{Kind: EventGranted, Seq: c.seq, Token: c.token, Lock: lock})
}

func (m *model) end(x *modelSession, reason command.EndReason) {
	var holds []*modelClaim
	m.claims = slices.DeleteFunc(m.claims, func(c *modelClaim) bool {
		if c.session == x.id && c.token != 0 {
			holds = append(holds, c)
		}
		return c.session == x.id
	})
	delete(m.sessions, x.id)
	m.tell(x, Event{Kind: EventEnded, Reason: reason})
	sort.Slice(holds, func(i, j int) bool { return holds[i].seq < holds[j].seq })
	for _, h := range holds {
		m.promote(h.lock)
	}
}

func (m *model) release(x *modelSession, seq uint64, r *command.Release) *command.Result {
	c := m.find(x.id, r.Hold)
	if c == nil || c.token == 0 {
		return code(command.Code_CODE_NOT_HELD)
	}
	if c.token != r.Token {
		return code(command.Code_CODE_STALE_TOKEN)
	}
	why, reason := command.Gone_GONE_RELEASED, command.EndReason_END_REASON_CLOSED
	if seq == 0 && c.revoked {
		why, reason = command.Gone_GONE_REVOKED, command.EndReason_END_REASON_FORCED
	}
	if r.Lost {
		why, reason = command.Gone_GONE_LOST, command.EndReason_END_REASON_CLOSED
	}
	if seq == 0 {
		m.tell(x, Event{Kind: EventGone, Seq: c.seq, Token: c.token, Lock: c.lock, Gone: why})
	}
	m.drop(c, why, reason)
	return code(command.Code_CODE_OK)
}

func (m *model) cancel(x *modelSession, target uint64) *command.Result {
	d, used := x.done[target]
	if used && d.kind != "acquire" {
		return code(command.Code_CODE_USED_UP)
	}
	if c := m.find(x.id, target); c != nil {
		m.drop(c, command.Gone_GONE_CANCELLED, command.EndReason_END_REASON_CLOSED)
	} else if !used && target > x.mark && !x.acked[target] {
		x.done[target] = modelDone{kind: "acquire", gone: command.Gone_GONE_CANCELLED}
	}
	return okWith(m.seqStanding(x, target))
}

func (m *model) reconcile(x *modelSession, r *command.Reconcile) *command.Result {
	named := map[uint64]uint64{}
	isNamed := map[uint64]bool{}
	for _, b := range r.Named {
		named[b.Seq], isNamed[b.Seq] = b.Token, true
	}
	var waits, holds []*modelClaim
	for _, c := range m.claims {
		if c.session != x.id || c.seq >= r.Next || isNamed[c.seq] && (named[c.seq] == 0 || named[c.seq] == c.token) {
			continue
		}
		if c.token == 0 {
			waits = append(waits, c)
		} else {
			holds = append(holds, c)
		}
	}
	sort.Slice(holds, func(i, j int) bool { return holds[i].seq < holds[j].seq })
	for _, c := range append(waits, holds...) {
		m.drop(c, command.Gone_GONE_UNNAMED, 0)
	}
	out := code(command.Code_CODE_OK)
	for _, b := range r.Named {
		if d, used := x.done[b.Seq]; used && d.kind != "acquire" {
			out.Answered = append(out.Answered, &command.Answered{Seq: b.Seq, Result: x.once(d)})
			continue
		}
		st := m.seqStanding(x, b.Seq)
		if st.State == command.Standing_STATE_UNSEEN && b.Token != 0 {
			st.State = command.Standing_STATE_GONE
		}
		out.Standings = append(out.Standings, st)
	}
	return out
}

func (m *model) revoke(r *command.Revoke) *command.Result {
	c := m.holderClaim(r.Lock)
	if c == nil {
		return code(command.Code_CODE_NOT_FOUND)
	}
	if r.Token != 0 && r.Token != c.token {
		return code(command.Code_CODE_STALE_TOKEN)
	}
	x := m.sessions[c.session]
	if r.Now {
		m.tell(x, Event{Kind: EventGone, Seq: c.seq, Token: c.token, Lock: c.lock, Gone: command.Gone_GONE_REVOKED})
		m.drop(c, command.Gone_GONE_REVOKED, command.EndReason_END_REASON_FORCED)
		return code(command.Code_CODE_OK)
	}
	if !c.revoked {
		c.revoked = true
		m.tell(x, Event{Kind: EventRevoked, Seq: c.seq, Token: c.token, Lock: c.lock, TTLNanos: x.ttl})
	}
	return okWith(m.standing(c))
}

func (m *model) plain(c *command.Command) *command.Result {
	switch k := c.Kind.(type) {
	case *command.Command_PlainAcquire:
		return m.plainAcquire(k.PlainAcquire)
	case *command.Command_PlainCancel:
		return m.plainCancel(k.PlainCancel)
	case *command.Command_PlainRenew:
		h, r := m.plainHeld(k.PlainRenew.Owner, k.PlainRenew.Lock, k.PlainRenew.Token)
		if r != nil {
			return r
		}
		h.claimed = true
		return m.plainRenewed(h, k.PlainRenew.TtlNanos)
	}
	p := c.GetPlainRelease()
	h, r := m.plainHeld(p.Owner, p.Lock, p.Token)
	if r != nil {
		return r
	}
	ok := code(command.Code_CODE_OK)
	ok.TtlNanos = m.sessions[h.session].ttl
	m.drop(h, command.Gone_GONE_RELEASED, command.EndReason_END_REASON_CLOSED)
	return ok
}

func (m *model) plainHeld(owner, lock string, token uint64) (*modelClaim, *command.Result) {
	h := m.holderClaim(lock)
	switch {
	case h == nil:
		return nil, code(command.Code_CODE_NOT_HELD)
	case m.sessions[h.session].owner != owner:
		return nil, &command.Result{Code: command.Code_CODE_NOT_OWNER, Holder: m.holder(lock)}
	case h.token != token:
		return nil, code(command.Code_CODE_STALE_TOKEN)
	}
	return h, nil
}

// plainRenewed renews unless the claim is revoked, and answers its standing.
func (m *model) plainRenewed(c *modelClaim, ttl uint64) *command.Result {
	x := m.sessions[c.session]
	if !c.revoked {
		x.ttl = max(x.ttl, ttl)
		m.tell(x, Event{Kind: EventRenewed, TTLNanos: x.ttl})
	}
	return m.plainStanding(c)
}

func (m *model) plainStanding(c *modelClaim) *command.Result {
	r := okWith(m.standing(c))
	r.Standings[0].Seq = 0
	r.TtlNanos = m.sessions[c.session].ttl
	return r
}

func (m *model) plainAcquire(p *command.PlainAcquire) *command.Result {
	id := PlainID(p.Owner, p.Lock)
	x := m.sessions[id]
	if x != nil && x.owner == "" {
		return code(command.Code_CODE_EXISTS)
	}
	h := m.holderClaim(p.Lock)
	if h != nil && h.session == id {
		again := h.claimed || !slices.Contains(h.requests, p.RequestId)
		if p.RequestId == "" {
			h.claimed = true
		} else if !h.claimed && !slices.Contains(h.requests, p.RequestId) {
			h.requests = append(h.requests, p.RequestId)
		}
		r := m.plainRenewed(h, p.TtlNanos)
		r.Renewed = again
		return r
	}
	if h != nil && p.RequestId == "" {
		return &command.Result{Code: command.Code_CODE_HELD, Holder: m.holder(p.Lock)}
	}
	for _, c := range m.claims {
		if c.session == id && c.requests[0] == p.RequestId {
			return m.plainRenewed(c, p.TtlNanos)
		}
	}
	if x == nil {
		x = &modelSession{id: id, owner: p.Owner, lock: p.Lock, ttl: p.TtlNanos}
		m.sessions[id] = x
		m.tell(x, Event{Kind: EventOpened, TTLNanos: x.ttl})
	} else {
		x.ttl = max(x.ttl, p.TtlNanos)
		m.tell(x, Event{Kind: EventRenewed, TTLNanos: x.ttl})
	}
	x.made++
	c := &modelClaim{session: id, seq: x.made, lock: p.Lock, priority: p.Priority, claimed: p.RequestId == ""}
	if p.RequestId != "" {
		c.requests = []string{p.RequestId}
	}
	m.claim(c)
	return m.plainStanding(c)
}

func (m *model) plainCancel(p *command.PlainCancel) *command.Result {
	id := PlainID(p.Owner, p.Lock)
	for _, c := range m.claims {
		if c.session != id || c.claimed || !slices.Contains(c.requests, p.RequestId) || m.sessions[id].owner == "" {
			continue
		}
		c.requests = slices.DeleteFunc(c.requests, func(r string) bool { return r == p.RequestId })
		if len(c.requests) == 0 {
			m.drop(c, command.Gone_GONE_CANCELLED, command.EndReason_END_REASON_CLOSED)
		}
		return okWith(&command.Standing{State: command.Standing_STATE_GONE, Lock: p.Lock, Gone: command.Gone_GONE_CANCELLED})
	}
	return code(command.Code_CODE_NOT_WAITING)
}
