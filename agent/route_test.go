package agent

import (
	"fmt"
	"slices"
	"testing"

	"github.com/raftlock/raftlock/agent/bootstrap"
)

// crowd is a gossip pool of many agents that all may vote, as far as is heard.
type crowd []bootstrap.Member

func (c crowd) Members() []bootstrap.Member   { return c }
func (c crowd) Changed() <-chan struct{}      { return nil }
func (c crowd) Publish(string, string)        {}
func (c crowd) Address(string) (string, bool) { return "", false }

// However many agents there are, and whatever their names: a voter is asked soon,
// and always once it said that it is one.
func TestVotersAreFoundInACrowd(t *testing.T) {
	var all crowd
	for i := range 4 * askedMax {
		all = append(all, bootstrap.Member{
			Name: fmt.Sprintf("%04d", i), ServerID: fmt.Sprint(i), Address: fmt.Sprintf("h%d:1", i), ClusterID: "c",
		})
	}
	last := all[len(all)-1]
	a := &Agent{cfg: Config{Gossip: all}}
	rounds := 0
	for ; !slices.Contains(a.voters(), last.Address); rounds++ {
		if rounds == 1000 {
			t.Fatal("never asked")
		}
	}
	a.noteMember(last.ServerID)
	for range 100 {
		if asked := a.voters(); len(asked) != askedMax || asked[0] != last.Address {
			t.Fatalf("asks %d, %s first", len(asked), asked[0])
		}
	}
}
