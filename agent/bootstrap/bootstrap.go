package bootstrap

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/raftlock/raftlock/internal/mutant"
)

var (
	// ErrRecord: the data directory's record cannot be used. Not safe to repeat;
	// somebody must look.
	ErrRecord = errors.New("bootstrap record cannot be used")
	// ErrStore is wrapped by the error of a save that failed. What is on disk is
	// not known, so this Bootstrap says and does nothing more: stop the agent and
	// start it anew.
	ErrStore = errors.New("bootstrap record cannot be saved")
	// ErrNotPromised: Forget named a list this agent is not bound to.
	ErrNotPromised = errors.New("not promised to that list")
	// ErrBelongs: Forget was asked of an agent that belongs to a cluster.
	ErrBelongs = errors.New("already belongs to a cluster")
	// ErrFounderLives: Forget was asked, but the founder is this agent itself or
	// was heard from within Config.Loud.
	ErrFounderLives = errors.New("the founder lives")
	// ErrNotFounder: Founded was called by another than the founder.
	ErrNotFounder = errors.New("not the founder")
)

// Kind is what Run decided.
type Kind int

// What the agent must do. It lasts: after a restart Run decides the same, but
// that Found becomes Start once Founded was called.
const (
	// Found: bootstrap Raft with exactly Decision.Members, unless it holds state
	// already, then call Founded.
	Found Kind = iota + 1
	// Start Raft with what its directory holds, which is nothing at first, and
	// for this cluster id only.
	Start
	// Follow: the agent belongs to the cluster and is not one of its first list.
	// It forwards, until the cluster makes it a standby.
	Follow
)

func (k Kind) String() string {
	switch k {
	case Found:
		return "found"
	case Start:
		return "start"
	case Follow:
		return "follow"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Decision is the end of a first start.
type Decision struct {
	Kind      Kind
	ClusterID string
	// Members of the first list, for Found and Start; addresses as they were
	// when the founder stood. Empty for a Start of a list that was forgotten.
	Members []Member
}

// Bootstrap is one agent's part in the first start.
type Bootstrap struct {
	cfg Config
	log *slog.Logger
	// wake has room for one: the record changed, look again.
	wake chan struct{}

	// writing is held by who changes the record, through the save. It comes
	// before mu.
	writing writing

	// mu guards what follows, and is never held through a save. rec and err are
	// only changed with writing held as well.
	mu sync.Mutex
	// rec is the record as it is durable.
	rec record
	// err, once set, is final: a save failed.
	err error
	// rival is a lower-named founder heard of since this agent stands.
	rival string
	// founderSeen is when the founder this agent is promised to was last heard.
	founderSeen time.Time
	// began is when Run was called.
	began time.Time
	// note is for Status.
	note note

	// What follows belongs to the goroutine of Run and Watch.

	// stillKey is the candidates in view, stillSince when they last changed.
	stillKey   string
	stillSince time.Time
	// notBefore is the earliest that this agent may stand again.
	notBefore time.Time
	// shunned are servers to leave out until then.
	shunned map[string]time.Time
	// attempt is of the list this agent stands with.
	attempt attempt
	// said is what was logged last of what this agent waits for, saidAt when.
	said   string
	saidAt time.Time
	// loudAt is when each warning was last given.
	loudAt map[string]time.Time
}

// New reads the record and decides nothing yet. Errors: an invalid Config, the
// store's, ErrRecord.
func New(cfg Config) (*Bootstrap, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("bootstrap configuration: %w", err)
	}
	data, err := cfg.Store.Load(recordKey)
	if err != nil {
		return nil, fmt.Errorf("load bootstrap record: %w", err)
	}
	rec, err := decodeRecord(data, cfg.ServerID)
	if err != nil {
		return nil, err
	}
	return &Bootstrap{
		cfg:     cfg,
		log:     cfg.Log.With("component", "bootstrap"),
		wake:    make(chan struct{}, 1),
		writing: make(writing, 1),
		rec:     rec,
		shunned: make(map[string]time.Time),
		loudAt:  make(map[string]time.Time),
	}, nil
}

// Run takes part in the first start until it is decided, at once if it was
// before. Errors: ctx's; ErrStore, after which the agent must stop.
func (b *Bootstrap) Run(ctx context.Context) (Decision, error) {
	b.mu.Lock()
	b.began = time.Now()
	b.mu.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return Decision{}, err
		}
		changed := b.cfg.View.Changed()
		rec, err := b.current()
		if err != nil {
			return Decision{}, err
		}
		if d, ok := decision(rec); ok {
			b.log.Info("decided", "decision", d.Kind, "cluster", d.ClusterID)
			return d, nil
		}
		v := b.look()
		b.report(v, rec.Cluster)
		wait := b.step(ctx, rec, v)
		if wait > 0 && ctx.Err() == nil {
			b.say(v)
		}
		b.pause(ctx, wait, changed)
	}
}

// step does what the record asks for and returns how long to wait when nothing
// happens meanwhile.
func (b *Bootstrap) step(ctx context.Context, rec record, v sight) time.Duration {
	switch {
	case rec.standing() != nil:
		return b.stand(ctx, rec.standing(), v)
	case rec.Promise != nil:
		return b.await(ctx, rec.Promise, v)
	default:
		return b.idle(ctx, v)
	}
}

func decision(rec record) (Decision, bool) {
	if rec.Cluster == "" {
		return Decision{}, false
	}
	d := Decision{Kind: Follow, ClusterID: rec.Cluster}
	if !rec.Listed {
		return d, true
	}
	d.Kind = Start
	if rec.founder() && !rec.Founded {
		d.Kind = Found
	}
	if rec.promisedTo(rec.Cluster) {
		for _, p := range rec.Promise.Members {
			d.Members = append(d.Members, Member{Name: p.Name, Address: p.Address, ServerID: p.ServerID, ClusterID: rec.Cluster})
		}
	}
	return d, true
}

// current returns the record as it is durable.
func (b *Bootstrap) current() (record, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rec, b.err
}

// update changes the record durably: change gets a copy and says whether it
// still applies. Nobody sees the change before it is saved.
func (b *Bootstrap) update(change func(*record) bool) (bool, error) {
	b.writing.lock()
	defer b.writing.unlock()
	return b.updateLocked(change)
}

// updateLocked is update for who holds writing.
func (b *Bootstrap) updateLocked(change func(*record) bool) (bool, error) {
	if b.err != nil {
		return false, b.err
	}
	next := b.rec
	if !change(&next) {
		return false, nil
	}
	err := b.save(next)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrStore, err)
		b.log.Error("stopped: the record cannot be saved", "error", err)
	}
	b.publish(next, err)
	return err == nil, err
}

// publish lets everybody see what was saved, or that it was not.
func (b *Bootstrap) publish(next record, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err = err; err == nil {
		b.rec = next
	}
	b.nudge()
}

func (b *Bootstrap) save(rec record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return b.cfg.Store.Save(recordKey, data)
}

// nudge makes Run or Watch look again.
func (b *Bootstrap) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// pause waits for something to happen.
func (b *Bootstrap) pause(ctx context.Context, wait time.Duration, changed <-chan struct{}) {
	timer := time.NewTimer(max(wait, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-changed:
	case <-b.wake:
	}
}

// jitter returns a random time below most.
func (b *Bootstrap) jitter(most time.Duration) time.Duration {
	var r [8]byte
	if _, err := io.ReadFull(b.cfg.Rand, r[:]); err != nil {
		// Jitter only saves time: no reason to stop.
		return most / 2
	}
	return time.Duration(binary.BigEndian.Uint64(r[:]) % uint64(max(most, 1)))
}

// loud reports whether the warning of this name is due again.
func (b *Bootstrap) loud(name string) bool {
	if last, ok := b.loudAt[name]; ok && time.Since(last) < b.cfg.Loud {
		return false
	}
	b.loudAt[name] = time.Now()
	return true
}

// Forget is the operator's word that the founder of a list never returns with
// its data: this agent takes its promise to it back. If the founder does return
// and has completed the list while this agent is still free, it joins all the
// same. Errors: ErrNotPromised, ErrBelongs, ErrFounderLives (nothing changed),
// ErrStore.
func (b *Bootstrap) Forget(clusterID string) error {
	b.writing.lock()
	defer b.writing.unlock()
	switch {
	case b.rec.Cluster != "":
		return fmt.Errorf("forget %s: %w (%s)", clusterID, ErrBelongs, b.rec.Cluster)
	case !b.rec.promisedTo(clusterID):
		return fmt.Errorf("forget %s: %w", clusterID, ErrNotPromised)
	case b.rec.Own != nil:
		return fmt.Errorf("forget %s: %w: it is this agent", clusterID, ErrFounderLives)
	}
	if seen := b.Status().FounderHeard; !seen.IsZero() && time.Since(seen) < b.cfg.Loud {
		return fmt.Errorf("forget %s: %w: heard from at %s", clusterID, ErrFounderLives, seen)
	}
	_, err := b.updateLocked(func(r *record) bool {
		r.Promise = nil
		r.Forgotten = append(r.Forgotten[:len(r.Forgotten):len(r.Forgotten)], clusterID)
		r.Forgotten = r.Forgotten[max(0, len(r.Forgotten)-forgottenMax):]
		return true
	})
	if err == nil {
		b.log.Warn("promise forgotten by the operator's word", "list", clusterID)
	}
	return err
}

// belong makes this agent one of a cluster that is known to exist: the one it
// is bound to, or, when it is free, any.
func (b *Bootstrap) belong(clusterID string) bool {
	done, _ := b.update(func(r *record) bool { return join(r, clusterID) })
	return done
}

func join(r *record, clusterID string) bool {
	if r.Cluster != "" || r.Own != nil || r.Promise != nil && !r.promisedTo(clusterID) {
		return false
	}
	r.Listed = r.mayStart(clusterID)
	r.Cluster = clusterID
	return true
}

// Founded is called by the founder's agent when its Raft holds the list
// durably. From then on Run says Start, the others are told, and the cluster
// id may be shown to the world. Safe to repeat. Errors: ErrNotFounder,
// ErrStore.
func (b *Bootstrap) Founded() error {
	b.writing.lock()
	defer b.writing.unlock()
	if b.rec.Cluster == "" || !b.rec.founder() {
		return ErrNotFounder
	}
	_, err := b.updateLocked(func(r *record) bool {
		due := !r.Founded
		r.Founded = true
		return due
	})
	return err
}

// ClusterID is what the agent tells gossip: the cluster it belongs to, or
// nothing. A founder's cluster exists once Founded was called.
func (b *Bootstrap) ClusterID() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rec.public()
}

// belongs reports whether the record rules out founding and promising for ever.
func (r *record) belongs() bool {
	if mutant.On("boot-member-eligible") {
		return false
	}
	return r.Cluster != ""
}
