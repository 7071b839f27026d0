package bootstrap

import (
	"encoding/hex"
	"fmt"
	"io"
)

// serverIDKey is where the server id is kept in the store.
const serverIDKey = "server-id"

// idBytes of randomness make an id that is never drawn twice.
const idBytes = 16

// NewServerID draws a server id: 32 hexadecimal digits. The randomness must be
// cryptographic; an error is the reader's.
func NewServerID(rand io.Reader) (string, error) {
	var id [idBytes]byte
	if _, err := io.ReadFull(rand, id[:]); err != nil {
		return "", fmt.Errorf("draw id: %w", err)
	}
	return hex.EncodeToString(id[:]), nil
}

// LoadServerID returns the server id of a data directory. An empty directory is
// a new server, so it gets a new one, durable before it is returned. After an
// error nothing was started; safe to repeat after a restart.
func LoadServerID(store Store, rand io.Reader) (string, error) {
	data, err := store.Load(serverIDKey)
	if err != nil {
		return "", fmt.Errorf("load server id: %w", err)
	}
	if data != nil {
		if !fits(string(data), nameBytesMax) {
			return "", fmt.Errorf("%w: server id has %d bytes", ErrRecord, len(data))
		}
		return string(data), nil
	}
	id, err := NewServerID(rand)
	if err != nil {
		return "", err
	}
	if err := store.Save(serverIDKey, []byte(id)); err != nil {
		return "", fmt.Errorf("save server id: %w", err)
	}
	return id, nil
}
