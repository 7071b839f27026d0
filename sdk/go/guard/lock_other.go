//go:build !unix

package guard

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// tryLock knows no lock here that ends with the process.
func tryLock(*os.File) error {
	return fmt.Errorf("%w: guards in files on %s", errors.ErrUnsupported, runtime.GOOS)
}
