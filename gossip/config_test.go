package gossip

import (
	"strings"
	"testing"
)

func TestConfigIsCheckedAllAtOnce(t *testing.T) {
	good := func() Config {
		c := testConfig("a", "127.0.0.1", "b", "c:1", "::1", "[::1]", "[::1]:7", "10.0.0.1")
		c.PeerAddress = "host.example:7950"
		return c
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 300)
	for name, tt := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"no name":                  {func(c *Config) { c.Name = "" }, []string{"--name"}},
		"name with a slash":        {func(c *Config) { c.Name = "a/b" }, []string{"--name", "slashes"}},
		"name with a control":      {func(c *Config) { c.Name = "a\x1bb" }, []string{"--name"}},
		"name is no UTF-8":         {func(c *Config) { c.Name = "a\xff" }, []string{"--name"}},
		"name too long":            {func(c *Config) { c.Name = long }, []string{"128 bytes"}},
		"no bind":                  {func(c *Config) { c.Bind = "" }, []string{"--bind"}},
		"bind with a port":         {func(c *Config) { c.Bind = "127.0.0.1:7946" }, []string{"without port"}},
		"bind with a zone":         {func(c *Config) { c.Bind = "fe80::1%eth0" }, []string{"--bind"}},
		"wildcard":                 {func(c *Config) { c.Bind = "0.0.0.0" }, []string{"--advertise"}},
		"wildcard of IPv6":         {func(c *Config) { c.Bind = "::" }, []string{"--advertise"}},
		"advertise is a wildcard":  {func(c *Config) { c.Advertise = "::" }, []string{"others can dial"}},
		"port":                     {func(c *Config) { c.Port = 65536 }, []string{"--gossip-port"}},
		"no peer address":          {func(c *Config) { c.PeerAddress = "" }, []string{"peer address"}},
		"peer address, no port":    {func(c *Config) { c.PeerAddress = "host" }, []string{"host:port"}},
		"peer address of nowhere":  {func(c *Config) { c.PeerAddress = "0.0.0.0:1" }, []string{"host:port"}},
		"peer address too long":    {func(c *Config) { c.PeerAddress = long + ":1" }, []string{"at most 140"}},
		"join with port 0":         {func(c *Config) { c.Join = []string{"a:0"} }, []string{"--join", "1 to 65535"}},
		"join with too many colon": {func(c *Config) { c.Join = []string{"a:1:2"} }, []string{"--join"}},
		"join with a node name":    {func(c *Config) { c.Join = []string{"name/10.0.0.1"} }, []string{"--join"}},
		"join nowhere":             {func(c *Config) { c.Join = []string{"0.0.0.0"} }, []string{"none to dial"}},
		"join too many":            {func(c *Config) { c.Join = make([]string, joinTargetsMax+1) }, []string{"too many"}},
		"key":                      {func(c *Config) { c.SecretKey = []byte("short") }, []string{"16, 24 or 32"}},
		"no log":                   {func(c *Config) { c.Log = nil }, []string{"log"}},
		"no time":                  {func(c *Config) { c.LeaveTimeout = 0 }, []string{"above zero"}},
		"falling pauses":           {func(c *Config) { c.JoinRetryMax = 1 }, []string{"must not fall"}},
		"several":                  {func(c *Config) { c.Name, c.Bind, c.PeerAddress = "", "", "" }, []string{"--name", "--bind", "peer address"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := good()
			tt.change(&c)
			_, err := New(c)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			if len(err.Error()) > 2000 && name != "join too many" {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	for name, change := range map[string]func(*Config){
		"wildcard with an address for others": func(c *Config) { c.Bind, c.Advertise = "0.0.0.0", "10.0.0.1" },
		"names":                               func(c *Config) { c.Bind, c.Advertise = "localhost", "host-1.example.org" },
		"any port":                            func(c *Config) { c.Port = 0 },
		"name in letters of its own":          func(c *Config) { c.Name = "haus-ä#1" },
	} {
		t.Run(name, func(t *testing.T) {
			c := good()
			change(&c)
			if _, err := New(c); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTargets(t *testing.T) {
	for text, want := range map[string]target{
		"host":             {"host", 7946},
		"host:17":          {"host", 17},
		"10.0.0.1":         {"10.0.0.1", 7946},
		"10.0.0.1:17":      {"10.0.0.1", 17},
		"fd00::1":          {"fd00::1", 7946},
		"[fd00::1]":        {"fd00::1", 7946},
		"[fd00::1]:17":     {"fd00::1", 17},
		"a.b-c_d.example.": {"a.b-c_d.example.", 7946},
	} {
		if got, err := parseTarget(text); err != nil || got != want {
			t.Errorf("%q gives %+v, %v", text, got, err)
		}
	}
}
