package processes

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// An agent is killed, a second later a process with a lock, and the agent comes
// back: it finds that the process is gone, and nobody waits for the lease.
func TestProcessDiesWhileItsAgentIsAway(t *testing.T) {
	c := usual(t)
	var took []time.Duration
	for range trials(t, 2) {
		r := c.roles()
		at := r.forwarders[0]
		holder := at.application().open(longTTL)
		next := r.voters[0].application().open(longTTL)
		first := holder.lock("orphaned")
		granted := next.wait("orphaned", 1)
		at.proc.kill()
		pass(time.Second)
		holder.kill()
		pass(500 * time.Millisecond)
		select {
		case early := <-granted:
			t.Fatalf("granted while nobody can know that the holder is dead: %+v", early)
		default:
		}
		restarted := clock()
		at.start()
		second := c.good(granted, "the next one's lock")
		took = append(took, second.Ended-restarted)
		if second.Token <= first.Token {
			t.Errorf("token %d after %d", second.Token, first.Token)
		}
		if second.Ended-restarted > longTTL/3 {
			t.Errorf("granted %s after the restart: that was the lease", second.Ended-restarted)
		}
		c.dismiss()
		c.whole(formTime, 5)
	}
	figure(t, "from the agent's restart to the grant of a lock whose holder died meanwhile: %s", spread(took))
}

// An agent is restarted while the process lives: the lock stays held, whatever
// PID namespace the agent comes back in.
func TestAgentRestartsUnderALivingHolder(t *testing.T) {
	for _, test := range []struct {
		name string
		as   spawn
	}{
		{"same PID namespace", spawn{}},
		{"a PID namespace of its own", spawn{pidNamespace: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := usual(t)
			r := c.roles()
			at := r.forwarders[0]
			holder := at.application().open(10 * time.Second)
			first := holder.lock("kept")
			holder.must(order{Do: "watch", Lock: "kept"})
			next := r.voters[0].application().open(longTTL)
			queue := []<-chan answer{next.wait("kept", 1)}
			at.proc.kill()
			at.startAs(test.as)
			c.whole(formTime, 5)
			pass(time.Second) // whatever the agent ends, it ends by now
			stillHeld(c, holder, "kept", first, queue)
			// It was resumed: the lease is renewed beyond what was left.
			before := holder.must(order{Do: "check", Lock: "kept"}).Deadline
			until(t, formTime, "the lease is renewed", func() error {
				if now := holder.must(order{Do: "check", Lock: "kept"}); now.Deadline <= before {
					return errStill
				}
				return nil
			})
			// And its death is seen at once, as ever.
			killed := clock()
			holder.proc.signal(t, unix.SIGKILL)
			got := c.good(queue[0], "the next one's lock")
			figure(t, "from the holder's kill after the restart to the grant: %s", (got.Ended - killed).Round(10*time.Microsecond))
			if got.Ended-killed > 5*time.Second {
				t.Errorf("granted %s after the kill: that was the lease", got.Ended-killed)
			}
			c.dismiss()
			// Leave the agent as it was found.
			at.proc.kill()
			at.start()
			c.whole(formTime, 5)
		})
	}
}

// Id and secret are not enough: a resume comes from the process that opened,
// at whichever agent it is tried. The session's own agent knows the process;
// another has only the log's word for it.
func TestResumeFromAnotherProcessIsRefused(t *testing.T) {
	c := usual(t)
	r := c.roles()
	holder := r.forwarders[0].application().open(shortTTL)
	first := holder.lock("mine")
	holder.must(order{Do: "watch", Lock: "mine"})
	session, secret := parsePass(t, holder.must(order{Do: "pass"}).Pass)
	for _, at := range []*agent{r.forwarders[0], r.forwarders[1], r.leader} {
		if reason := resume(t, at, session, secret); reason != api.Reason_REASON_DENIED {
			t.Errorf("another process with id and secret was answered %s by %s", reason, at.name)
		}
	}
	stillHeld(c, holder, "mine", first, nil)
	until(t, shortTTL, "the holder is renewed", func() error {
		if now := holder.must(order{Do: "check", Lock: "mine"}); now.Deadline <= first.Deadline {
			return errStill
		}
		return nil
	})
}

// shortTTL is renewed every second or so.
const shortTTL = 5 * time.Second

// resume tries to resume a session from this process, and tells the answer.
func resume(t testing.TB, at *agent, session, secret []byte) api.Reason {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+at.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), formTime)
	defer cancel()
	stream, err := api.NewRaftLockClient(conn).Session(ctx)
	must(t, err)
	must(t, stream.Send(&api.SessionRequest{Request: &api.SessionRequest_Resume{Resume: &api.Resume{
		Session: session, Secret: secret, Seq: 1 << 40, ClockNanos: uint64(clock()), TtlNanos: uint64(shortTTL),
	}}}))
	for {
		m, err := stream.Recv()
		must(t, err)
		if attached := m.GetAttached(); attached != nil {
			return attached.Reason
		}
	}
}

// parsePass takes a pass apart, which no application should: the secret proves
// who may resume.
func parsePass(t *testing.T, pass string) (session, secret []byte) {
	t.Helper()
	_, word, _ := strings.Cut(pass, ".")
	both, err := base64.RawURLEncoding.DecodeString(word)
	if err != nil || len(both) != 48 {
		t.Fatalf("a pass of %d bytes: %v", len(both), err)
	}
	return both[:16], both[16:]
}
