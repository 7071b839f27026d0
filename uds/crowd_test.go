package uds

import (
	"errors"
	"net"
	"testing"
)

func TestCrowd(t *testing.T) {
	type step struct {
		uid   uint32
		speak bool  // says something once it is in
		err   error // is refused
		out   int   // closes the connection of this step, counted from 1
	}
	silent := func(uid uint32) step { return step{uid: uid} }
	speaks := func(uid uint32) step { return step{uid: uid, speak: true} }
	table := []struct {
		name   string
		config Config
		steps  []step
	}{
		{"the oldest silent one goes", Config{Connections: 100, Silent: 2},
			[]step{silent(1), silent(1), {uid: 1, out: 1}, {uid: 1, out: 2}}},
		{"who spoke is not silent", Config{Connections: 100, Silent: 2},
			[]step{speaks(1), silent(1), silent(1), {uid: 1, out: 2}}},
		{"the user with most silent ones pays", Config{Connections: 100, Silent: 3},
			[]step{silent(1), silent(2), silent(2), {uid: 1, out: 2}, {uid: 3, out: 1}}},
		{"full of speakers", Config{Connections: 4, Silent: 9},
			[]step{speaks(1), speaks(2), speaks(3), speaks(4), {uid: 5, err: errFull}}},
		{"full, but one is silent", Config{Connections: 4, Silent: 9},
			[]step{speaks(1), speaks(2), silent(3), speaks(4), {uid: 5, speak: true, out: 3}, {uid: 6, err: errFull}}},
		{"the superuser has places kept", Config{Connections: 2, Silent: 9},
			[]step{speaks(1), speaks(2), {uid: 3, err: errFull}, speaks(0), {uid: 3, err: errFull}}},
		{"one user leaves a quarter", Config{Connections: 4, Silent: 9},
			[]step{speaks(1), speaks(1), speaks(1), {uid: 1, err: errFullUser}, speaks(2)}},
		{"a user at the bound pays for itself", Config{Connections: 4, Silent: 9},
			[]step{silent(2), silent(1), speaks(1), speaks(1), {uid: 1, out: 2}}},
	}
	for _, row := range table {
		t.Run(row.name, func(t *testing.T) {
			d := newCrowd(row.config)
			var all []*conn
			for i, step := range row.steps {
				near, far := net.Pipe()
				defer far.Close()
				c := &conn{Conn: near, peer: &Peer{UID: step.uid}, crowd: d, answered: func() {}}
				all = append(all, c)
				if err := d.enter(c); !errors.Is(err, step.err) {
					t.Fatalf("step %d: %v", i+1, err)
				}
				if step.speak {
					d.heard(c)
				}
				for j, other := range all {
					_, in := d.members[other]
					if step.out == j+1 && in {
						t.Errorf("step %d: connection %d is still in", i+1, j+1)
					}
				}
				if step.out != 0 {
					if _, err := all[step.out-1].Read(make([]byte, 1)); err == nil {
						t.Errorf("step %d: connection %d is not closed", i+1, step.out)
					}
				}
			}
			for _, c := range all {
				_ = c.Close()
				_ = c.Close()
			}
			if len(d.members)+len(d.silent)+len(d.users) != 0 {
				t.Errorf("when all have left: %d, %d silent, users %v", len(d.members), len(d.silent), d.users)
			}
		})
	}
}
