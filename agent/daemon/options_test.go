package daemon

import (
	"strings"
	"testing"
	"time"
)

func TestOptionsTellAllThatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   []string // in the error; none: valid
	}{
		{"the defaults", func(*Options) {}, nil},
		{"one host", func(o *Options) { *o = DevOptions("/tmp/x"); o.Name = "a" }, nil},
		{"a forwarder", func(o *Options) { o.Role, o.Join = RoleForwarder, []string{"127.0.0.2"} }, nil},
		{"everything at once", func(o *Options) {
			o.Name, o.DataDir, o.Expect, o.Role, o.SnapshotInterval = "a/b", "", 4, "voter", 0
		}, []string{"--name", "--data-dir", "--expect 4", "--role", "--snapshot-interval"}},
		{"beyond loopback in plain text", func(o *Options) { o.Bind = "10.0.0.1" }, []string{"--insecure-plaintext"}},
		{"a wildcard that nobody can dial", func(o *Options) { o.Bind, o.InsecurePlaintext = "0.0.0.0", true }, []string{"--advertise"}},
		{"a wildcard with an address", func(o *Options) { o.Bind, o.InsecurePlaintext, o.Advertise = "::", true, "10.0.0.1" }, nil},
		{"no IP", func(o *Options) { o.Bind, o.Advertise = "localhost", "example.com" }, []string{"--bind", "--advertise"}},
		{"a path too long", func(o *Options) { o.Socket = "/" + strings.Repeat("x", 107) }, []string{"--socket", "107"}},
		{"one path twice", func(o *Options) { o.AdminSocket = o.Socket }, []string{"--admin-socket"}},
		{"nobody's group", func(o *Options) { o.SocketGroup = "no-such-group" }, []string{"--socket-group", "no-such-group"}},
		{"a group's number", func(o *Options) { o.SocketGroup = "54321" }, nil},
		{"one port twice", func(o *Options) { o.GossipPort = o.PeerPort }, []string{"--gossip-port", "--peer-port"}},
		{"HTTP for everybody", func(o *Options) { o.HTTP = "0.0.0.0:80" }, []string{"--http", "loopback"}},
		{"HTTP on a taken port", func(o *Options) { o.HTTP = "127.0.0.1:7950" }, []string{"--http"}},
		{"elections faster than heartbeats", func(o *Options) { o.ElectionTimeout = 500 * time.Millisecond }, []string{"--election-timeout", "--heartbeat-interval"}},
		{"initial and expect differ", func(o *Options) { o.Initial = []string{"a", "b"} }, []string{"--initial", "--expect"}},
		{"a name twice", func(o *Options) { o.Expect, o.Initial = 3, []string{"a", "a", "b"} }, []string{`"a" twice`}},
		{"a forwarder that shall vote", func(o *Options) {
			o.Name, o.Role, o.Join, o.Expect, o.Initial = "a", RoleForwarder, []string{"b"}, 1, []string{"a"}
		}, []string{"--role forwarder"}},
		{"a forwarder alone", func(o *Options) { o.Role = RoleForwarder }, []string{"--join"}},
		{"what gossip cannot carry", func(o *Options) { o.Name, o.Join = "a b", []string{"", "b:c:d"} }, []string{"--name", `""`, "b:c:d", "--join"}},
		{"one host among others", func(o *Options) {
			*o = DevOptions("/tmp/x")
			o.Name, o.Join, o.Expect = "a", []string{"b"}, 3
		}, []string{"--join", "--expect 3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := DefaultOptions()
			o.Name = "a"
			c.change(&o)
			err := o.Validate()
			if (err == nil) != (len(c.want) == 0) {
				t.Fatalf("Validate: %v", err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not name %s", err, w)
				}
			}
		})
	}
}
