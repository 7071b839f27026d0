package link

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// ErrTooLarge is wrapped by the error of a Send with a frame that no batch can
// hold. Nothing of that Send was sent.
var ErrTooLarge = errors.New("frame too large")

// split cuts frames into batches within the bounds, in order.
func split[F proto.Message](frames []F) ([][]F, error) {
	var batches [][]F
	start, bytes := 0, 0
	for i, f := range frames {
		// Both batches have their frames in field 2.
		size := protowire.SizeTag(2) + protowire.SizeBytes(proto.Size(f))
		if size > MessageBytesMax {
			return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, size)
		}
		if i-start == FramesMax || bytes+size > MessageBytesMax {
			batches = append(batches, frames[start:i])
			start, bytes = i, 0
		}
		bytes += size
	}
	if start < len(frames) {
		batches = append(batches, frames[start:])
	}
	return batches, nil
}

// checkBatch looks at what was received before anybody else does.
func checkBatch[F any](frames []F, greeting bool, check func(F) error) error {
	if greeting {
		return fmt.Errorf("%w: a second greeting", ErrInvalid)
	}
	if len(frames) > FramesMax {
		return fmt.Errorf("%w: a batch of %d", ErrInvalid, len(frames))
	}
	for _, f := range frames {
		if err := check(f); err != nil {
			return err
		}
	}
	return nil
}
