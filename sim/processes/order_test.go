package processes

import (
	"time"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// An order is what a test tells an application to do; an answer follows each,
// in whatever order they end. Both are one line of JSON.
type order struct {
	ID int    `json:"id"`
	Do string `json:"do"`
	// Session and Lock are the test's names; a lock belongs to the last session
	// that took it.
	Session string        `json:"session,omitempty"`
	Lock    string        `json:"lock,omitempty"`
	Socket  string        `json:"socket,omitempty"`
	TTL     time.Duration `json:"ttl,omitempty"`
	// Patience bounds the call; 0: half a minute.
	Patience time.Duration `json:"patience,omitempty"`
	Try      bool          `json:"try,omitempty"`
	Stale    bool          `json:"stale,omitempty"`
	// Count is how many sessions, Each how many locks of each.
	Count int `json:"count,omitempty"`
	Each  int `json:"each,omitempty"`
}

// answer to an order. Times are readings of CLOCK_BOOTTIME.
type answer struct {
	ID       int                `json:"id"`
	Failure  *failure           `json:"failure,omitempty"`
	Began    time.Duration      `json:"began"`
	Ended    time.Duration      `json:"ended"`
	Token    uint64             `json:"token,omitempty"`
	Deadline time.Duration      `json:"deadline,omitempty"`
	Valid    bool               `json:"valid,omitempty"`
	Pass     string             `json:"pass,omitempty"`
	PID      int                `json:"pid,omitempty"`
	Alive    int                `json:"alive,omitempty"`
	Info     *raftlock.LockInfo `json:"info,omitempty"`
	Watch    *watchLog          `json:"watch,omitempty"`
	Turns    []turn             `json:"turns,omitempty"`
	Spans    []toldSpan         `json:"spans,omitempty"`
}

// toldSpan is a span of an application that sends none itself. Ids are in
// hexadecimal digits, times in nanoseconds since 1970.
type toldSpan struct {
	Name   string `json:"name"`
	Trace  string `json:"trace"`
	Span   string `json:"span"`
	Parent string `json:"parent"`
	Began  uint64 `json:"began"`
	Ended  uint64 `json:"ended"`
}

// failure is an error as the SDK told it.
type failure struct {
	Text    string `json:"text"`
	Reason  string `json:"reason"`
	Applied string `json:"applied"`
	// Over: the caller's patience ended.
	Over bool `json:"over"`
}

func (f *failure) Error() string { return f.Text }

// watchLog is what a holder saw of its own handle, looking every millisecond
// or so. Of each look it keeps when it began and what it was told.
type watchLog struct {
	Looks int `json:"looks"`
	// LastValid is when the last look began that was told "valid"; FirstLost
	// when the first began that was told "lost", 0 if none was.
	LastValid time.Duration `json:"last_valid"`
	FirstLost time.Duration `json:"first_lost"`
	// Again counts looks that were told "valid" after one was told "lost".
	Again int `json:"again"`
	// Deadline is the latest V that the handle ever told.
	Deadline time.Duration `json:"deadline"`
	// Gap is the longest time between two looks.
	Gap time.Duration `json:"gap"`
}

// unbroken says that every look so far was told "valid".
func (w *watchLog) unbroken() bool { return w.Looks > 0 && w.FirstLost == 0 }

// turn is one lock and unlock of a worker.
type turn struct {
	Began  time.Duration `json:"began"`
	Held   time.Duration `json:"held"`
	Ended  time.Duration `json:"ended"`
	Token  uint64        `json:"token"`
	Failed string        `json:"failed,omitempty"`
}
