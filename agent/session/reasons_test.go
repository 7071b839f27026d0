package session

import (
	"testing"

	"github.com/raftlock/raftlock/fsm/command"
)

// Every code that can reach an application has a reason of its own, and no
// code says OK but OK.
func TestEveryCodeHasAReason(t *testing.T) {
	inner := map[command.Code]string{
		command.Code_CODE_UNSPECIFIED: "never answered",
		command.Code_CODE_VOID:        "asked again by the leader's side",
	}
	for n, name := range command.Code_name {
		code := command.Code(n)
		r, ok := reasons[code]
		if why := inner[code]; ok == (why != "") {
			t.Errorf("%s: has a reason: %v; inner because %q", name, ok, why)
		}
		if ok && (r.String() == "REASON_OK") != (code == command.Code_CODE_OK) {
			t.Errorf("%s says %s", name, r)
		}
	}
}

// Every way for an acquire to be gone has a reason.
func TestEveryGoneHasAReason(t *testing.T) {
	for n, name := range command.Gone_name {
		if _, ok := goneReasons[command.Gone(n)]; !ok && n != 0 {
			t.Errorf("%s has no reason", name)
		}
	}
}
