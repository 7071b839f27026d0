package main

import "testing"

func TestErrorsAreForPeople(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"status: lost", "status: lost"},
		{"get: rpc error: code = Unavailable desc = no such list; go", "get: no such list; go"},
		{`call: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial unix /s: connect: connection refused"; go`,
			"call: dial unix /s: connect: connection refused; go"},
		{"no connection to /s: dial unix /s: connect: no such file; go", "no connection to /s: connect: no such file; go"},
		{"one\ntwo", "\n  one\n  two"},
	} {
		if got := forPeople(c.text); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}
