package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

const (
	// obstacleAfter is how long a wait may be before an obstacle is looked for:
	// most elections are over by then.
	obstacleAfter = 2 * time.Second
	// obstacleConfirm is the pause before the second look: one that passes is
	// not worth a word.
	obstacleConfirm = time.Second
	// obstacleEvery is the pause between looks that find none. Each asks the
	// leader, and those who wait may be many.
	obstacleEvery = 10 * time.Second
	// obstacleAgain is the least pause between two lines.
	obstacleAgain = 30 * time.Second
	// obstacleLook bounds one look. An agent that waits for a leader in vain
	// answers within it.
	obstacleLook = 3 * time.Second
	// holderLook bounds the look for the holder when all is over.
	holderLook = 500 * time.Millisecond
)

// watchObstacle says, to logs too, why there is no answer, while that lasts. ctx
// ends when the wait does.
func (r *run) watchObstacle(ctx context.Context) {
	if r.cfg.Try {
		return // it ends soon, and says then
	}
	seen := false
	for pause := obstacleAfter; ; {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		what := r.obstacle(ctx)
		switch {
		case what == "":
			seen, pause = false, obstacleEvery
		case ctx.Err() != nil:
			return
		case !seen:
			seen, pause = true, obstacleConfirm
		default:
			pause = obstacleAgain
			r.tell("still waiting for %q: %s", r.cfg.Lock, what)
		}
	}
}

// obstacle is what keeps the cluster from answering, as the agent sees it;
// empty: nothing, or nothing that can be told.
func (r *run) obstacle(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, obstacleLook)
	defer cancel()
	nobody := "no agent answers on " + r.cfg.Socket
	// The client would wait for one.
	conn, err := new(net.Dialer).DialContext(ctx, "unix", r.cfg.Socket)
	if err != nil {
		return nobody
	}
	_ = conn.Close()
	s, err := r.client.Status(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nobody
	case err != nil:
		return ""
	case s.ClusterID == "":
		return fmt.Sprintf("no cluster yet: the agent %s; raftlock status tells more", s.Doing)
	case s.Reach == "NO_QUORUM":
		return "no quorum; raftlock status tells more"
	case s.Reach == "NO_LEADER":
		return "no leader; raftlock status tells more"
	}
	return ""
}

// overdue is for people whose patience is over: what they waited for, and what
// stood in the way.
func (r *run) overdue(err error) error {
	const next = "; the command was not started; look at raftlock status"
	text := fmt.Sprintf("still waiting after %v", r.cfg.Wait)
	if r.cfg.Try {
		text = fmt.Sprintf("no answer for %v", tryPatience)
	}
	switch {
	case errors.Is(err, raftlock.ErrNoQuorum):
		return errors.New(text + ": no quorum" + next)
	case errors.Is(err, raftlock.ErrNoLeader):
		return errors.New(text + ": no leader" + next)
	}
	ctx, cancel := context.WithTimeout(context.Background(), holderLook) // the wait's own is over
	defer cancel()
	info, looking := r.client.Get(ctx, r.cfg.Lock, raftlock.Stale())
	switch {
	case looking != nil && errors.Is(looking, context.DeadlineExceeded):
		return fmt.Errorf("%s: no agent answers on %s%s", text, r.cfg.Socket, next)
	case looking == nil && info.Held && !r.cfg.Try:
		return fmt.Errorf("still held after %v; the command was not started; raftlock get %q tells who holds it", r.cfg.Wait, r.cfg.Lock)
	}
	return errors.New(text + next)
}
