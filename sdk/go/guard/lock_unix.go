//go:build unix

package guard

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock takes the file's lock, which the kernel gives free when the process
// exits.
func tryLock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w (it holds the lock on %s)", ErrInUse, f.Name())
	}
	return err
}
