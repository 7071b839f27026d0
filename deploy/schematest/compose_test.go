package schematest

import (
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

func compose(t *testing.T) *types.Project {
	t.Helper()
	p, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  "../docker",
		ConfigFiles: []types.ConfigFile{{Filename: "../docker/compose.yaml"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeFile(t *testing.T) {
	p := compose(t)
	voters, forwarders := 0, 0
	for name, s := range p.Services {
		role, isAgent := s.Environment["RAFTLOCK_NAME"]
		if !isAgent {
			continue
		}
		if *role != name {
			t.Errorf("%s calls itself %s", name, *role)
		}
		if s.Networks["peers"] == nil || s.Networks["peers"].Ipv4Address != *s.Environment["RAFTLOCK_BIND"] {
			t.Errorf("%s binds to an address that it does not have", name)
		}
		if s.HealthCheck != nil {
			t.Errorf("%s: the image has the health check", name)
		}
		if role := s.Environment["RAFTLOCK_ROLE"]; role != nil && *role == "forwarder" {
			forwarders++
		} else {
			voters++
		}
	}
	if voters != 5 || forwarders != 1 {
		t.Errorf("%d voters and %d forwarders", voters, forwarders)
	}
	if !p.Networks["peers"].Internal {
		t.Error("the network of plain text can be reached from outside")
	}
}
