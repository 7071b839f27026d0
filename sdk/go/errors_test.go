package raftlock

import (
	"context"
	"errors"
	"slices"
	"testing"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

func TestEveryReasonHasItsOwnError(t *testing.T) {
	seen := map[error]string{}
	for n, name := range raftlockv1.Reason_name {
		r := raftlockv1.Reason(n)
		if r == raftlockv1.Reason_REASON_UNSPECIFIED || r == ok {
			continue
		}
		err, found := sentinels[r]
		if !found {
			t.Errorf("%s has no error", name)
			continue
		}
		if seen[err] != "" {
			t.Errorf("%s and %s share %v", name, seen[err], err)
		}
		seen[err] = name
		if e := error(refused(r, "")); !errors.Is(e, err) || errors.Is(e, ErrUnnamed) {
			t.Errorf("%s: %v is not %v", name, e, err)
		}
	}
	if !errors.Is(refused(9999, ""), ErrUnnamed) {
		t.Error("a reason of the future is not ErrUnnamed")
	}
}

func TestErrorTellsCauseAndEffect(t *testing.T) {
	err := error(&Error{Reason: raftlockv1.Reason_REASON_CANCELLED, Detail: "set TTL", Applied: AppliedUnknown, cause: context.DeadlineExceeded})
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrCancelled) {
		t.Errorf("%v hides what it is", err)
	}
	if want := "cancelled: set TTL: context deadline exceeded (applied: unknown)"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func TestAcks(t *testing.T) {
	cases := []struct {
		name  string
		add   []uint64
		mark  uint64
		above []uint64
	}{
		{"none", nil, 0, nil},
		{"in order", []uint64{1, 2, 3}, 3, nil},
		{"out of order", []uint64{3, 1, 2}, 3, nil},
		{"gap", []uint64{1, 4, 3}, 1, []uint64{3, 4}},
		{"gap closed", []uint64{1, 4, 6, 3, 2}, 4, []uint64{6}},
		{"twice", []uint64{2, 2, 1, 1, 2}, 2, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var a acks
			for _, seq := range c.add {
				a.add(seq)
			}
			mark, above := a.named()
			if mark != c.mark || !slices.Equal(above, c.above) {
				t.Errorf("%d and %v, want %d and %v", mark, above, c.mark, c.above)
			}
		})
	}
}

func TestAcksNameAtMostTheirBound(t *testing.T) {
	var a acks
	for seq := uint64(2); seq < 2*ackAboveMax; seq++ {
		a.add(seq)
	}
	if _, above := a.named(); len(above) != ackAboveMax || above[0] != 2 {
		t.Errorf("%d named from %d on", len(above), above[0])
	}
}
