package command

import (
	"crypto/sha256"
	"encoding/binary"
)

// PlainID names the implicit session of plain requests: a hash of owner and
// lock, told apart from every other use of the hash by its prefix.
func PlainID(owner, lock string) [16]byte {
	h := sha256.New()
	h.Write([]byte("raftlock plain session v1\x00"))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(owner))))
	h.Write([]byte(owner))
	h.Write([]byte(lock))
	return [16]byte(h.Sum(nil))
}
