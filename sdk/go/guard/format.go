package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The file: a header, then batches.
//
//	header: fileMagic, salt (8), checksum of both (4)
//	batch:  batchMagic, number from 1 (8), length of payload (4), checksum (4), payload
//	payload: records: length of name (2), token (8), name
//
// Numbers are big-endian. A batch's checksum covers the salt, the batch's number
// and length, and the payload: no name that somebody chose can pass for a batch.
const (
	fileMagic     = "RLGUARD1"
	batchMagic    = "RLgb"
	headerBytes   = len(fileMagic) + 8 + 4
	frameBytes    = len(batchMagic) + 8 + 4 + 4
	recordBytes   = 2 + 8 // and the name
	batchBytesMax = 1 << 20
)

// forgotten, in place of a token, takes a resource away.
const forgotten = 0

type record struct {
	resource string
	token    uint64
}

func (r record) size() int { return recordBytes + len(r.resource) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeHeader(salt [8]byte) []byte {
	b := append([]byte(fileMagic), salt[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func encodeBatch(salt [8]byte, number uint64, records []record) []byte {
	b := make([]byte, frameBytes)
	for _, r := range records {
		b = binary.BigEndian.AppendUint16(b, uint16(len(r.resource)))
		b = binary.BigEndian.AppendUint64(b, r.token)
		b = append(b, r.resource...)
	}
	at := copy(b, batchMagic)
	binary.BigEndian.PutUint64(b[at:], number)
	binary.BigEndian.PutUint32(b[at+8:], uint32(len(b)-frameBytes))
	binary.BigEndian.PutUint32(b[at+12:], batchSum(salt, b))
	return b
}

// batchSum leaves out the magic and the sum itself.
func batchSum(salt [8]byte, batch []byte) uint32 {
	sum := crc32.Checksum(salt[:], castagnoli)
	sum = crc32.Update(sum, castagnoli, batch[len(batchMagic):frameBytes-4])
	return crc32.Update(sum, castagnoli, batch[frameBytes:])
}

// contents is what a file says.
type contents struct {
	salt    [8]byte
	highest map[string]uint64
	batches uint64
	// whole is where the intact part ends; what follows was torn by a crash.
	whole int
}

// decode reads a file. Errors: ErrCorrupt.
func decode(file []byte) (*contents, error) {
	c := &contents{highest: map[string]uint64{}, whole: headerBytes}
	if len(file) < headerBytes || !bytes.HasPrefix(file, []byte(fileMagic)) {
		return nil, fmt.Errorf("%w: it does not begin as a guard's file", ErrCorrupt)
	}
	copy(c.salt[:], file[len(fileMagic):])
	if !bytes.Equal(file[:headerBytes], encodeHeader(c.salt)) {
		return nil, fmt.Errorf("%w: its header is damaged", ErrCorrupt)
	}
	for c.whole < len(file) {
		number, payload := intact(c.salt, file[c.whole:])
		if payload == nil || number != c.batches+1 {
			return c, c.judgeTail(file)
		}
		if err := c.take(payload); err != nil {
			return nil, fmt.Errorf("%w: batch %d, at byte %d: %w", ErrCorrupt, number, c.whole, err)
		}
		c.batches = number
		c.whole += frameBytes + len(payload)
	}
	return c, nil
}

// intact reads one batch; nil: there is none, or it is damaged.
func intact(salt [8]byte, b []byte) (number uint64, payload []byte) {
	if len(b) < frameBytes || !bytes.HasPrefix(b, []byte(batchMagic)) {
		return 0, nil
	}
	fields := b[len(batchMagic):]
	length := binary.BigEndian.Uint32(fields[8:])
	if length == 0 || length > batchBytesMax || int(length) > len(b)-frameBytes {
		return 0, nil
	}
	b = b[:frameBytes+int(length)]
	if binary.BigEndian.Uint32(fields[12:]) != batchSum(salt, b) {
		return 0, nil
	}
	return binary.BigEndian.Uint64(fields), b[frameBytes:]
}

// judgeTail tells a torn batch from a damaged one. A batch is written when the
// one before it is on disk: so one with an intact one behind it was once whole,
// and accepted.
func (c *contents) judgeTail(file []byte) error {
	for at := c.whole; ; at++ {
		next := bytes.Index(file[at:], []byte(batchMagic))
		if next < 0 {
			return nil
		}
		at += next
		if number, payload := intact(c.salt, file[at:]); payload != nil {
			return fmt.Errorf("%w: at byte %d, before batch %d at byte %d", ErrCorrupt, c.whole, number, at)
		}
	}
}

var errRecord = errors.New("not records")

func (c *contents) take(payload []byte) error {
	for len(payload) > 0 {
		if len(payload) < recordBytes {
			return errRecord
		}
		name := int(binary.BigEndian.Uint16(payload))
		token := binary.BigEndian.Uint64(payload[2:])
		payload = payload[recordBytes:]
		if name == 0 || name > resourceBytesMax || name > len(payload) {
			return errRecord
		}
		resource := string(payload[:name])
		payload = payload[name:]
		if token == forgotten {
			delete(c.highest, resource)
		} else {
			c.highest[resource] = max(c.highest[resource], token)
		}
	}
	return nil
}
