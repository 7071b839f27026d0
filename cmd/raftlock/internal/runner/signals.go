package runner

import (
	"os"
	"os/signal"
	"syscall"
)

// forwarded are the signals that the command's group gets when the runner does.
// TSTP is among them, and does not stop the runner: it would no longer renew.
var forwarded = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT,
}

// signalsMax bounds the signals not forwarded yet. A burst beyond it is cut, as
// the kernel does with equal ones.
const signalsMax = 32

// listen takes the signals that were not ignored when the runner started: what
// nohup has silenced stays silent, for the command too.
func listen() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, signalsMax)
	for _, s := range forwarded {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	return c, func() { signal.Stop(c) }
}
