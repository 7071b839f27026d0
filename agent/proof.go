package agent

import (
	"context"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
	"github.com/raftlock/raftlock/link/linkpb"
	"github.com/raftlock/raftlock/telemetry/key"
)

// Proof of death: an agent that was restarted ends the sessions of its former
// starts whose processes are surely gone (design section 6). Everything else is
// left to the lease, or to a resume.
const (
	// How often the processes that lived are looked at again: one may die
	// before it resumes.
	proofInterval = 2 * time.Second
	// How often, while any are left, the leader is asked which: sessions end,
	// and move to other agents. The second time is early: what a former start
	// had on its way may have been applied since the first.
	proofListInterval = 30 * time.Second
	proofListSoon     = 5 * time.Second
	// How many ends are on their way at once.
	proofEnds = 64
)

// prove runs until ctx ends. It asks over whatever link there is, and waits for
// one.
func (a *Agent) prove(ctx context.Context) error {
	var left []*linkpb.SessionInfo
	due, lists, known := a.cfg.Clock(), 0, 0
	for {
		orphans := a.sessions.Orphans()
		now := a.cfg.Clock()
		if now >= due && (lists < 2 || len(left) > 0 || orphans > 0) || orphans > known {
			if all, ok := a.former(ctx, orphans > 0); ok {
				left, lists, known = all, lists+1, orphans
				due = a.cfg.Clock() + proofListInterval
				if lists == 1 {
					due = a.cfg.Clock() + proofListSoon
				}
			}
		}
		known = min(known, orphans)
		left = a.endDead(ctx, left)
		if !sleep(ctx, proofInterval) {
			return nil
		}
	}
}

// former asks the leader for the sessions that are attached through other starts
// of this agent, and with orphans through this one too. False: ctx ended, or
// there is too much to do now.
func (a *Agent) former(ctx context.Context, orphans bool) ([]*linkpb.SessionInfo, bool) {
	q := &linkpb.ListSessions{Agent: a.cfg.Name, NotIncarnation: a.cfg.Incarnation}
	if orphans {
		q.NotIncarnation = 0
	}
	var all []*linkpb.SessionInfo
	for {
		r, err := a.sessions.Query(ctx, &linkpb.Query{Query: &linkpb.Query_Sessions{Sessions: q}})
		if err != nil {
			return nil, false
		}
		all = append(all, r.Sessions...)
		if len(r.NextSession) == 0 {
			return all, true
		}
		q.After = r.NextSession
	}
}

// endDead ends those of the listed sessions whose processes are all gone, and
// returns those that are to be looked at again.
func (a *Agent) endDead(ctx context.Context, all []*linkpb.SessionInfo) (left []*linkpb.SessionInfo) {
	var ends sync.WaitGroup
	var mu sync.Mutex // guards again
	var again []*linkpb.SessionInfo
	slots := make(chan struct{}, proofEnds)
	for _, i := range all {
		switch orphan, known := a.sessions.Orphan(fsm.ID(i.Session)); {
		case known && !orphan, i.LeaseOnExit, len(i.Processes) == 0:
		case !a.allGone(i.Processes):
			left = append(left, i)
		default:
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				ends.Wait()
				return nil
			}
			ends.Go(func() {
				defer func() { <-slots }()
				if !a.endFormer(ctx, i) {
					mu.Lock()
					again = append(again, i)
					mu.Unlock()
				}
			})
		}
	}
	ends.Wait()
	return append(left, again...)
}

func (a *Agent) allGone(processes []*command.Process) bool {
	if mutant.On("agent-proof-any") {
		return slices.ContainsFunc(processes, a.cfg.Gone)
	}
	return !slices.ContainsFunc(processes, func(p *command.Process) bool { return !a.cfg.Gone(p) })
}

// endFormer names the attachment that was listed: a resume that won since is not
// undone. Of a session that is known here nobody may join while its end is on
// its way. False: no answer came, so it is to be asked again.
func (a *Agent) endFormer(ctx context.Context, i *linkpb.SessionInfo) bool {
	if a.sessions.EndOrphan(fsm.ID(i.Session), i.Attachment) {
		return true
	}
	r, err := a.sessions.Propose(ctx, &command.Command{
		Session: i.Session, Attachment: i.Attachment,
		Kind: &command.Command_End{End: &command.End{Reason: command.EndReason_END_REASON_EXITED}},
	})
	if err == nil && r.Code == command.Code_CODE_OK {
		a.cfg.Log.Info("session ended, its processes are gone", key.Session, hex.EncodeToString(i.Session), key.Attachment, i.Attachment)
	}
	return err == nil
}
