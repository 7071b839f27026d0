package processes

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// raftlock demo makes a cluster that serves, tells where its agents are, and
// takes all of it along when it is interrupted. A holder killed there is
// noticed as anywhere.
func TestDemo(t *testing.T) {
	dir := runPath("demo")
	log, err := os.Create(runPath("demo.log"))
	must(t, err)
	defer func() { _ = log.Close() }()
	program(t, agentProgram) // it lies beside the tool, where demo looks
	demo := home.start(t, spawn{
		path: program(t, toolProgram), args: []string{"demo", "--voters", "5", "--forwarders", "2", "--dir", dir}, log: log,
	})
	defer demo.kill()
	c := &cluster{t: t, dir: dir}
	t.Cleanup(func() {
		c.tell()
		c.end()
	})
	pids := join(c, demo, filepath.Join(dir, "cluster.json"))
	c.whole(2*formTime, 5)

	var took []time.Duration
	for n := range trials(t, 2) {
		took = append(took, killHolder(c, fmt.Sprintf("demo-%d", n), spawn{}, false))
	}
	figure(t, "from the holder's kill to the next one's grant: %s", spread(took))

	demo.signal(t, unix.SIGINT)
	select {
	case <-demo.done:
	case <-time.After(formTime):
		t.Fatalf("the demo has not ended %s after its interrupt", formTime)
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("the agent with process id %d outlived the demo: %v", pid, err)
		}
	}
}

// join makes the demo's agents those of c, as its file tells of them.
func join(c *cluster, demo *process, file string) (pids []int) {
	c.t.Helper()
	var told struct {
		Agents []struct {
			Name   string `json:"name"`
			PID    int    `json:"pid"`
			Socket string `json:"socket"`
		} `json:"agents"`
	}
	until(c.t, formTime, "the demo tells of its agents", func() error {
		if !demo.running() {
			c.t.Fatal("the demo has ended by itself")
		}
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return err
		}
		must(c.t, err)
		return json.Unmarshal(text, &told)
	})
	if len(told.Agents) != 7 {
		c.t.Fatalf("%s tells of %d agents", file, len(told.Agents))
	}
	for _, one := range told.Agents {
		client, err := raftlock.Dial(c.t.Context(), raftlock.WithSocket(one.Socket))
		must(c.t, err)
		c.agents = append(c.agents, &agent{c: c, name: one.Name, socket: one.Socket, client: client, foreign: true})
		pids = append(pids, one.PID)
	}
	return pids
}
