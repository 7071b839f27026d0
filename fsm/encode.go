package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"unicode/utf8"

	"github.com/raftlock/raftlock/fsm/command"
)

// One encoding serves snapshots and hashes. It is written by hand because equal
// states must give equal bytes on every replica, whatever library version each
// was built with (I6), which protobuf does not promise. Every value has exactly
// one encoding; Restore refuses any other.

func hashSession(x *session) uint64 { return hashBytes('s', appendSession(nil, x)) }

func hashUse(u *use) uint64 {
	var room [160]byte
	return hashBytes('u', appendUse(room[:0], u))
}

func hashHeader(h *header) uint64 { return hashBytes('h', appendHeader(nil, h)) }

// hashBytes is strong because the hashes are added up: with a weak one, two
// differing elements could cancel each other out.
func hashBytes(kind byte, b []byte) uint64 {
	sum := sha256.Sum256(append(b, kind))
	return binary.LittleEndian.Uint64(sum[:])
}

// Hash returns a hash of the state, kept up with each entry: replicas compare
// it at equal indexes. It depends on nothing but the state, so it is the same
// after a restore.
func (s *State) Hash() uint64 { return s.sum + hashHeader(&s.header) }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendUvarints(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func appendHeader(b []byte, h *header) []byte {
	b = appendUvarints(b, h.index, h.term, uint64(h.version), h.token, h.order, h.attachments)
	return appendString(b, h.clusterID)
}

func appendSession(b []byte, x *session) []byte {
	b = append(b, x.id[:]...)
	b = appendUvarints(b, x.attachment, x.incarnation, x.ttl, x.mark)
	b = appendString(appendString(b, x.agent), x.identity)
	b = append(b, x.secretHash[:]...)
	b = appendBool(b, x.leaseOnExit)
	b = appendUvarints(b, uint64(len(x.processes)))
	for _, p := range x.processes {
		b = appendUvarints(b, uint64(uint32(p.PID)), p.StartTicks, p.PIDNamespace, p.PidfdInode, p.ID)
		b = appendBool(appendBool(appendString(b, p.BootID), p.InitialNamespace), p.Opener)
	}
	b = appendBool(b, x.plain != nil)
	if x.plain != nil {
		b = appendString(appendString(b, x.plain.owner), x.plain.lock)
		b = appendUvarints(b, x.plain.next)
	}
	return b
}

func appendUse(b []byte, u *use) []byte {
	b = append(b, u.session[:]...)
	b = appendUvarints(b, u.seq)
	b = append(b, byte(u.kind))
	switch u.kind {
	case useWait, useHold:
		b = appendClaim(b, u)
	case useGone:
		b = append(appendString(b, u.lock), u.gone)
	case useAnswered:
		a := u.more.answer
		b = append(b, byte(a.kind), byte(a.code))
		b = appendUvarints(b, a.attachment, a.incarnation)
	}
	return b
}

func appendClaim(b []byte, u *use) []byte {
	b = appendString(b, u.lock)
	b = appendUvarints(b, u.token, u.order, uint64(uint32(u.priority)))
	b = appendBool(appendBool(appendBool(b, u.acked), u.revoked), u.claimed)
	b = appendUvarints(b, uint64(len(u.metadata())))
	for _, p := range u.metadata() {
		b = appendString(appendString(b, p.key), p.value)
	}
	b = appendUvarints(b, uint64(len(u.requests())))
	for _, r := range u.requests() {
		b = appendString(b, r)
	}
	return b
}

// decoder reads the encoding. After the first thing amiss it reads zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() {
	d.b, d.bad = nil, true
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) array16() (out [16]byte) {
	copy(out[:], d.bytes(16))
	return out
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (d *decoder) bool() bool { return d.byte() != 0 }

func (d *decoder) string() string {
	b := d.bytes(d.uvarint())
	if !utf8.Valid(b) {
		d.fail()
	}
	return string(b)
}

// count reads the length of a list, refused above most.
func (d *decoder) count(most uint64) int {
	n := d.uvarint()
	if n > most {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) header() header {
	h := header{index: d.uvarint(), term: d.uvarint(), version: uint32(d.uvarint())}
	h.token, h.order, h.attachments = d.uvarint(), d.uvarint(), d.uvarint()
	h.clusterID = d.string()
	return h
}

func (d *decoder) session() *session {
	x := &session{id: d.array16(), attachment: d.uvarint(), incarnation: d.uvarint(), ttl: d.uvarint(), mark: d.uvarint()}
	x.agent, x.identity = d.string(), d.string()
	copy(x.secretHash[:], d.bytes(uint64(len(x.secretHash))))
	x.leaseOnExit = d.bool()
	for range d.count(command.ProcessesMax) {
		p := Process{PID: int32(uint32(d.uvarint())), StartTicks: d.uvarint(), PIDNamespace: d.uvarint(), PidfdInode: d.uvarint(), ID: d.uvarint()}
		p.BootID, p.InitialNamespace, p.Opener = d.string(), d.bool(), d.bool()
		x.processes = append(x.processes, p)
	}
	if d.bool() {
		x.plain = &plain{owner: d.string(), lock: d.string(), next: d.uvarint()}
	}
	return x
}

func (d *decoder) use() *use {
	u := &use{session: d.array16(), seq: d.uvarint(), kind: useKind(d.byte())}
	switch u.kind {
	case useWait, useHold:
		d.claim(u)
	case useGone:
		u.lock, u.gone = d.string(), d.byte()
	case useAnswered:
		a := answer{kind: answerKind(d.byte()), code: command.Code(d.byte())}
		a.attachment, a.incarnation = d.uvarint(), d.uvarint()
		u.more = &more{answer: a}
	case useAcked:
	default:
		d.fail()
	}
	return u
}

func (d *decoder) claim(u *use) {
	u.lock = d.string()
	u.token, u.order, u.priority = d.uvarint(), d.uvarint(), int32(uint32(d.uvarint()))
	u.acked, u.revoked, u.claimed = d.bool(), d.bool(), d.bool()
	var metadata []pair
	for range d.count(command.MetadataBytesMax) {
		metadata = append(metadata, pair{key: d.string(), value: d.string()})
	}
	var requests []string
	for range d.count(command.PlainRequestsMax) {
		requests = append(requests, d.string())
	}
	u.more = newMore(metadata, requests)
}
