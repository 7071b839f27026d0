package command

import (
	"fmt"
	"unicode/utf8"
)

// Valid says what is wrong with a command, for people; "" when nothing is. It
// looks at the command alone, so its verdict never changes: a command that it
// refuses is answered INVALID, changes nothing, and is not worth repeating.
// Proposers should ask it first: one bad string makes a whole entry unfit to
// marshal. A command of an unknown kind is valid as far as it can be seen.
func Valid(c *Command) string {
	if c.GetKind() == nil {
		return ""
	}
	return first(validSession(c), validSeq(c), validAck(c), validKind(c))
}

// first returns the first complaint there is.
func first(complaints ...string) string {
	for _, c := range complaints {
		if c != "" {
			return c
		}
	}
	return ""
}

func validSession(c *Command) string {
	switch k := c.Kind.(type) {
	case *Command_Establish, *Command_Revoke, *Command_JumpTokens, *Command_SetVersion:
		if len(c.Session) != 0 {
			return "session: this kind concerns none, leave it empty"
		}
	case *Command_PlainAcquire:
		return validPlain(c, k.PlainAcquire.GetOwner(), k.PlainAcquire.GetLock())
	case *Command_PlainRenew:
		return validPlain(c, k.PlainRenew.GetOwner(), k.PlainRenew.GetLock())
	case *Command_PlainRelease:
		return validPlain(c, k.PlainRelease.GetOwner(), k.PlainRelease.GetLock())
	case *Command_PlainCancel:
		return validPlain(c, k.PlainCancel.GetOwner(), k.PlainCancel.GetLock())
	default:
		if len(c.Session) != SessionIDBytes {
			return fmt.Sprintf("session: must be %d bytes", SessionIDBytes)
		}
		if [SessionIDBytes]byte(c.Session) == [SessionIDBytes]byte{} {
			return "session: must not be all zeros, draw it at random"
		}
	}
	return ""
}

func validPlain(c *Command, owner, lock string) string {
	if c.Attachment != 0 {
		return "attachment: plain requests have none"
	}
	if len(c.Session) != 0 && string(c.Session) != string(idBytes(PlainID(owner, lock))) {
		return "session: of a plain request it is empty, or the hash of owner and lock"
	}
	return first(text("owner", owner), text("lock", lock))
}

func idBytes(id [16]byte) []byte { return id[:] }

// validSeq: a sequence is demanded where repeating would do something twice,
// and refused where the command is safe to repeat by what it says.
func validSeq(c *Command) string {
	switch c.Kind.(type) {
	case *Command_Open, *Command_Resume, *Command_SetTtl, *Command_Acquire:
		if c.Seq == 0 {
			return "seq: must be given"
		}
	case *Command_Release:
	default:
		if c.Seq != 0 {
			return "seq: this kind carries none"
		}
	}
	return ""
}

func validAck(c *Command) string {
	if len(c.AckAbove) > SinglesMax {
		return fmt.Sprintf("ack_above: at most %d", SinglesMax)
	}
	return ""
}

func validKind(c *Command) string {
	switch k := c.Kind.(type) {
	case *Command_Establish:
		return first(text("cluster_id", k.Establish.GetClusterId()), textOrNone("server_id", k.Establish.GetServerId()))
	case *Command_Open:
		o := k.Open
		return first(validSecret(o.GetSecretHash()), validAgent(o.GetAgent()), validTTL(o.GetTtlNanos()),
			validProcess(o.GetProcess()), text("identity", o.GetIdentity()))
	case *Command_Resume:
		return first(validSecret(k.Resume.GetSecretHash()), validAgent(k.Resume.GetAgent()), validProcess(k.Resume.GetProcess()))
	case *Command_SetTtl:
		return validTTL(k.SetTtl.GetTtlNanos())
	case *Command_Acquire:
		return first(text("lock", k.Acquire.GetLock()), validMetadata(k.Acquire.GetMetadata()))
	case *Command_Release:
		if k.Release.GetHold() == 0 {
			return "hold: the acquire's sequence must be given"
		}
	case *Command_Cancel:
		if k.Cancel.GetTarget() == 0 {
			return "target: the acquire's sequence must be given"
		}
	case *Command_Reconcile:
		return validReconcile(k.Reconcile)
	case *Command_Join:
		if k.Join.GetProcess() == nil {
			return "process: must be given"
		}
		return first(validSecret(k.Join.GetSecretHash()), validProcess(k.Join.GetProcess()))
	case *Command_Revoke:
		return first(text("lock", k.Revoke.GetLock()), textOrNone("by", k.Revoke.GetBy()))
	case *Command_PlainAcquire:
		p := k.PlainAcquire
		return first(validTTL(p.GetTtlNanos()), textOrNone("request_id", p.GetRequestId()),
			validMetadata(p.GetMetadata()), text("identity", p.GetIdentity()))
	case *Command_PlainRenew:
		return validTTL(k.PlainRenew.GetTtlNanos())
	case *Command_PlainCancel:
		return text("request_id", k.PlainCancel.GetRequestId())
	}
	return ""
}

func validSecret(hash []byte) string {
	if len(hash) != SecretHashBytes {
		return fmt.Sprintf("secret_hash: must be %d bytes", SecretHashBytes)
	}
	return ""
}

func validAgent(a *Agent) string {
	if a.GetIncarnation() == 0 {
		return "agent: incarnation must be given"
	}
	return text("agent", a.GetName())
}

func validProcess(p *Process) string {
	if len(p.GetBootId()) > BootIDBytesMax {
		return fmt.Sprintf("boot_id: at most %d bytes", BootIDBytesMax)
	}
	return textOrNone("boot_id", p.GetBootId())
}

func validTTL(nanos uint64) string {
	if nanos < TTLNanosMin || nanos > TTLNanosMax {
		return "ttl_nanos: must lie between 200 ms and 24 h"
	}
	return ""
}

func validMetadata(pairs []*Pair) string {
	size := 0
	for i, p := range pairs {
		if i > 0 && pairs[i-1].GetKey() >= p.GetKey() {
			return "metadata: must be sorted by key, no key twice"
		}
		if c := text("metadata key", p.GetKey()); c != "" {
			return c
		}
		if !utf8.ValidString(p.GetValue()) {
			return "metadata value: must be UTF-8"
		}
		size += len(p.GetKey()) + len(p.GetValue())
	}
	if size > MetadataBytesMax {
		return fmt.Sprintf("metadata: at most %d bytes in all", MetadataBytesMax)
	}
	return ""
}

func validReconcile(r *Reconcile) string {
	if len(r.GetNamed()) > NamedMax {
		return fmt.Sprintf("named: at most %d", NamedMax)
	}
	last := uint64(0)
	for _, b := range r.GetNamed() {
		if b.GetSeq() <= last {
			return "named: must rise by seq from 1, no seq twice"
		}
		last = b.GetSeq()
	}
	if last >= r.GetNext() && last != 0 {
		return "named: must lie below next"
	}
	return ""
}

// ValidName says what is wrong with the name of a lock; empty: nothing.
func ValidName(lock string) string { return text("lock", lock) }

func text(field, s string) string {
	if s == "" {
		return field + ": must be given"
	}
	return textOrNone(field, s)
}

// textOrNone spells the control characters out instead of asking package
// unicode: replicas built with different tables must agree.
func textOrNone(field, s string) string {
	if len(s) > NameBytesMax {
		return fmt.Sprintf("%s: at most %d bytes", field, NameBytesMax)
	}
	if !utf8.ValidString(s) {
		return field + ": must be UTF-8"
	}
	for _, r := range s {
		if r < 0x20 || (r >= 0x7f && r < 0xa0) {
			return field + ": must not hold control characters"
		}
	}
	return ""
}
