package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/raftlock/raftlock/link/linkpb"
)

// errOtherServer: at the address answers somebody else than was asked. The data
// directory was emptied, or the address is reused.
var errOtherServer = errors.New("another server answers there")

// errNoAnswer: an answer that is none.
var errNoAnswer = errors.New("answer lacks its part on founding")

// ask puts one question to one peer. An answer of anybody else is an error.
func (b *Bootstrap) ask(ctx context.Context, to peer, f *linkpb.Founding) (*linkpb.FoundingAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.AskTimeout)
	defer cancel()
	a, err := b.cfg.Ask.Ask(ctx, to.Address, &linkpb.Question{
		From:     b.cfg.Name,
		Question: &linkpb.Question_Founding{Founding: f},
	})
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", to.Name, err)
	}
	if a.GetServerId() != to.ServerID || a.GetAgent() != to.Name {
		return nil, fmt.Errorf("ask %s: %w: server %s, agent %s", to.Name, errOtherServer, a.GetServerId(), a.GetAgent())
	}
	if a.GetFounding() == nil {
		return nil, fmt.Errorf("ask %s: %w", to.Name, errNoAnswer)
	}
	return a.GetFounding(), nil
}

// reply is what one peer said; answer is nil if err is not.
type reply struct {
	peer   peer
	answer *linkpb.FoundingAnswer
	err    error
}

// askAll puts one question to several peers at once and waits for all. The
// replies have the order of the peers.
func (b *Bootstrap) askAll(ctx context.Context, to []peer, f *linkpb.Founding) []reply {
	replies := make([]reply, len(to))
	var group sync.WaitGroup
	for i, p := range to {
		group.Go(func() {
			answer, err := b.ask(ctx, p, f)
			replies[i] = reply{peer: p, answer: answer, err: err}
		})
	}
	group.Wait()
	return replies
}

// addressed returns the peers with the addresses they have now.
func (v sight) addressed(peers []peer) []peer {
	out := make([]peer, len(peers))
	for i, p := range peers {
		out[i] = v.now(p)
	}
	return out
}

func promiseMessage(l *list) *linkpb.Founding {
	return &linkpb.Founding{Founding: &linkpb.Founding_Promise{Promise: &linkpb.Promise{List: l.message()}}}
}

func abandonMessage(id string) *linkpb.Founding {
	return &linkpb.Founding{Founding: &linkpb.Founding_Abandon{Abandon: &linkpb.Abandon{ClusterId: id}}}
}

func startMessage(id string) *linkpb.Founding {
	return &linkpb.Founding{Founding: &linkpb.Founding_Start{Start: &linkpb.Start{ClusterId: id}}}
}

func inquireMessage(id, founderID string) *linkpb.Founding {
	return &linkpb.Founding{Founding: &linkpb.Founding_Inquire{Inquire: &linkpb.Inquire{ClusterId: id, FounderId: founderID}}}
}
