package processes

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A network joins agents that have a network namespace each: one pair of
// virtual devices for each, whose near ends are ports of bridges. Agents whose
// ports are on one bridge hear each other. What a cut takes away, packets and
// answers of living connections, it takes without a word.
type network struct {
	name  string
	ports []string
	made  int // bridges
}

// newNetwork makes n namespaces, with a thread in each.
func newNetwork(t testing.TB, name string, n int) (*network, []*thread) {
	t.Helper()
	w := &network{name: name}
	must(t, w.ensure(1))
	var threads []*thread
	for i := range n {
		h := newThread()
		t.Cleanup(h.end)
		var err error
		h.do(func() { err = unix.Unshare(unix.CLONE_NEWNET) })
		must(t, err)
		port := fmt.Sprintf("%sp%d", name, i)
		must(t, home.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(h.tid)))
		must(t, home.run("ip", "link", "set", port, "up", "master", w.bridge(0)))
		must(t, h.run("ip", "link", "set", "lo", "up"))
		must(t, h.run("ip", "addr", "add", w.address(i)+"/24", "dev", "eth0"))
		must(t, h.run("ip", "link", "set", "eth0", "up"))
		w.ports = append(w.ports, port)
		threads = append(threads, h)
	}
	return w, threads
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *network) address(i int) string { return fmt.Sprintf("10.77.0.%d", i+1) }

func (w *network) bridge(i int) string { return fmt.Sprintf("%sb%d", w.name, i) }

// ensure makes bridges until there are n.
func (w *network) ensure(n int) error {
	for ; w.made < n; w.made++ {
		b := w.bridge(w.made)
		if err := home.run("ip", "link", "add", b, "type", "bridge"); err != nil {
			return err
		}
		if err := home.run("ip", "link", "set", b, "up"); err != nil {
			return err
		}
	}
	return nil
}

// split puts ports on bridges of their own, group by group; who is in no group
// stays on the first bridge. When it returns the cut is in force.
func (w *network) split(t testing.TB, groups ...[]int) {
	t.Helper()
	must(t, w.ensure(len(groups)+1))
	var b strings.Builder
	for g, group := range groups {
		for _, i := range group {
			fmt.Fprintf(&b, "link set %s master %s\n", w.ports[i], w.bridge(g+1))
		}
	}
	must(t, home.feed(b.String(), "ip", "-batch", "-"))
}

// heal puts all on one bridge again.
func (w *network) heal(t testing.TB) {
	t.Helper()
	var b strings.Builder
	for _, port := range w.ports {
		fmt.Fprintf(&b, "link set %s master %s\n", port, w.bridge(0))
	}
	must(t, home.feed(b.String(), "ip", "-batch", "-"))
}
