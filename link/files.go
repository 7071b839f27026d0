package link

import (
	"errors"
	"syscall"
)

// isOutOfFiles: this process, or the host, has no file descriptor to spare.
func isOutOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED)
}
