package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

// ErrSnapshot is wrapped by every error of Restore that is about the snapshot
// itself. Nothing of such a snapshot may be used; take another one.
var ErrSnapshot = errors.New("bad snapshot")

// A snapshot is snapshotMagic, then records, then the SHA-256 of all before it.
// A record is its payload's length (4 bytes), its kind and its payload: one
// header, the sessions by id, the uses by session and sequence, one end with
// the counts of both. The magic names the format; a change of any payload makes
// a new one.
const (
	snapshotMagic  = "raftlock fsm 1\n"
	recordBytesMax = 128 << 10
)

const (
	recordHeader  = 'h'
	recordSession = 's'
	recordUse     = 'u'
	recordEnd     = 'e'
)

// Snapshot writes the view. Equal states write equal bytes. An error is that of
// w, and what was written is no snapshot; it may be called again.
func (v *View) Snapshot(w io.Writer) error {
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10)
	out.WriteString(snapshotMagic) // errors of a bufio.Writer stay until Flush
	writeRecord(out, recordHeader, appendHeader(nil, &v.header))
	var room []byte
	more := true
	record := func(kind byte, payload []byte) bool {
		room = payload
		more = writeRecord(out, kind, payload)
		return more
	}
	v.sessions.Scan(func(x *session) bool { return record(recordSession, appendSession(room[:0], x)) })
	uses := 0
	v.uses.Scan(func(u *use) bool {
		if u.kind == useWait && mutant.On("fsm-snapshot-queue") {
			return true
		}
		uses++
		return more && record(recordUse, appendUse(room[:0], u))
	})
	writeRecord(out, recordEnd, appendUvarints(nil, uint64(v.sessions.Len()), uint64(uses)))
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if _, err := w.Write(sum.Sum(nil)); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

func writeRecord(w *bufio.Writer, kind byte, payload []byte) bool {
	var head [5]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(payload)))
	head[4] = kind
	w.Write(head[:])
	_, err := w.Write(payload)
	return err == nil
}

// Restore reads a whole snapshot and returns the state it was taken of. An
// error wraps ErrSnapshot, or is that of r; there is no half state.
func Restore(r io.Reader) (*State, error) {
	in := &summed{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
	magic, err := in.read(len(snapshotMagic))
	if err != nil {
		return nil, broken("start", err)
	}
	if string(magic) != snapshotMagic {
		return nil, fmt.Errorf("%w: not of a format that this program knows", ErrSnapshot)
	}
	s := New()
	if err := s.restoreRecords(in); err != nil {
		return nil, err
	}
	want := in.sum.Sum(nil)
	got, err := in.read(len(want))
	if err != nil {
		return nil, broken("checksum", err)
	}
	if !bytes.Equal(got, want) {
		return nil, fmt.Errorf("%w: checksum does not match", ErrSnapshot)
	}
	if _, err := in.r.ReadByte(); err == nil {
		return nil, fmt.Errorf("%w: something follows its end", ErrSnapshot)
	} else if err != io.EOF {
		return nil, broken("end", err)
	}
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return s, nil
}

// restoreRecords takes records in, up to the end record. The order of records
// and the uniqueness of keys follow from one comparison with the last.
func (s *State) restoreRecords(in *summed) error {
	var last use
	seen := false
	for {
		kind, payload, err := in.record()
		if err != nil {
			return err
		}
		d := &decoder{b: payload}
		if !seen && kind != recordHeader || seen && kind == recordHeader {
			return fmt.Errorf("%w: header missing or repeated", ErrSnapshot)
		}
		var again []byte
		switch kind {
		case recordHeader:
			s.header, seen = d.header(), true
			again = appendHeader(nil, &s.header)
		case recordSession:
			x := d.session()
			again = appendSession(nil, x)
			if top, some := s.sessions.Max(); s.uses.Len() > 0 || some && !sessionLess(top, x) {
				return fmt.Errorf("%w: sessions out of order", ErrSnapshot)
			}
			s.restoreSession(x)
		case recordUse:
			u := d.use()
			again = appendUse(nil, u)
			if s.uses.Len() > 0 && !useLess(&last, u) {
				return fmt.Errorf("%w: uses out of order", ErrSnapshot)
			}
			last = *u
			if err := s.restoreUse(u); err != nil {
				return err
			}
		case recordEnd:
			return s.restoreEnd(d)
		}
		if d.bad || len(d.b) > 0 || !bytes.Equal(again, payload) {
			return fmt.Errorf("%w: record %q malformed", ErrSnapshot, kind)
		}
	}
}

func (s *State) restoreEnd(d *decoder) error {
	sessions, uses := d.uvarint(), d.uvarint()
	if d.bad || len(d.b) > 0 || sessions != uint64(s.sessions.Len()) || uses != uint64(s.uses.Len()) {
		return fmt.Errorf("%w: counts do not match", ErrSnapshot)
	}
	return nil
}

func (s *State) restoreSession(x *session) {
	x.hash = hashSession(x)
	s.sum += x.hash
	s.sessions.Set(x)
	s.identities[x.identity]++
}

// restoreUse puts a use in and counts it; whether all fits together is Check's
// to say.
func (s *State) restoreUse(u *use) error {
	x := s.session(u.session)
	if x == nil {
		return fmt.Errorf("%w: a use of no session", ErrSnapshot)
	}
	if u.acked || u.kind == useAcked {
		x.singles++
	}
	switch u.kind {
	case useWait:
		l, _ := s.lock(u.lock)
		if l.name == "" {
			l.name = u.lock
		}
		u.lock = l.name
		l.waiters++
		s.locks.Set(l)
		x.waits++
	case useHold:
		if l, _ := s.lock(u.lock); l.holder != nil {
			return fmt.Errorf("%w: a lock with two holders", ErrSnapshot)
		}
		x.holds++
		if u.revoked {
			s.revoked++
		}
	case useGone, useAnswered:
		x.answers++
	}
	s.put(u)
	return nil
}

// summed reads and sums what it reads.
type summed struct {
	r   *bufio.Reader
	sum interface {
		io.Writer
		Sum([]byte) []byte
	}
	room []byte
}

// read returns n bytes, good until the next read.
func (in *summed) read(n int) ([]byte, error) {
	if cap(in.room) < n {
		in.room = make([]byte, n)
	}
	b := in.room[:n]
	if _, err := io.ReadFull(in.r, b); err != nil {
		return nil, err
	}
	in.sum.Write(b)
	return b, nil
}

func (in *summed) record() (kind byte, payload []byte, err error) {
	head, err := in.read(5)
	if err != nil {
		return 0, nil, broken("record", err)
	}
	n := binary.BigEndian.Uint32(head)
	if kind = head[4]; n > recordBytesMax {
		return 0, nil, fmt.Errorf("%w: record too long", ErrSnapshot)
	}
	if payload, err = in.read(int(n)); err != nil {
		return 0, nil, broken("record", err)
	}
	if kind != recordHeader && kind != recordSession && kind != recordUse && kind != recordEnd {
		return 0, nil, fmt.Errorf("%w: record of unknown kind %q", ErrSnapshot, kind)
	}
	return kind, payload, nil
}

// broken tells a snapshot that ended early from a reader that failed.
func broken(at string, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: ended early (%s)", ErrSnapshot, at)
	}
	return fmt.Errorf("read snapshot (%s): %w", at, err)
}

// bounds that Check and Restore share with the commands.
const answersEver = command.AnswersResumeMax + command.ClaimsMax
