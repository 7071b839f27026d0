package command

// Limits are constants of command version 1: every replica must judge a
// command alike, so none of them is configuration. Changing one needs a new
// cluster version. Sizes are bytes, times nanoseconds.
const (
	// FormatEntry is the only entry format there is.
	FormatEntry = 1
	// VersionFirst is the cluster version of a new state.
	VersionFirst = 1

	// EntryCommandsMax and EntryBytesMax bound one entry; a larger one is void.
	EntryCommandsMax = 512
	EntryBytesMax    = 256 << 10

	SessionIDBytes  = 16
	SecretHashBytes = 32
	NameBytesMax    = 512
	BootIDBytesMax  = 128
	// MetadataBytesMax bounds keys and values of one acquire together.
	MetadataBytesMax = 4 << 10

	TTLNanosMin = 200 * 1000 * 1000
	TTLNanosMax = 24 * 3600 * 1000 * 1000 * 1000

	// WaitersMax bounds the queue of one lock.
	WaitersMax = 1 << 20
	// ClaimsMax bounds the holds and waits of one session together: a wait may
	// become a hold by a stranger's command, which nobody can refuse.
	ClaimsMax = 4096
	// SessionsMax bounds the sessions of one identity.
	SessionsMax = 16384
	// ProcessesMax bounds the processes of one session.
	ProcessesMax = 64
	// PlainRequestsMax bounds the waiting requests of one (owner, lock).
	PlainRequestsMax = 64

	// AnswersMax bounds what a session has not acknowledged (cached answers and
	// gone acquires); past it only acknowledge, release, cancel, end, reconcile,
	// leave and resume are taken.
	AnswersMax = 1024
	// AnswersHardMax: past it a cancel of an unseen sequence is refused and a
	// release's own answer is not cached.
	AnswersHardMax = 4096
	// AnswersResumeMax: past it even a resume is refused. Out of reach of a
	// client that acknowledges anything at all.
	AnswersResumeMax = 16384
	// SinglesMax bounds the sequences acknowledged singly above the mark, in
	// the state and in one command; past it they count as not acknowledged.
	SinglesMax = 4096
	// NamedMax bounds the sequences one reconcile names: it is one command, and
	// must fit an entry.
	NamedMax = 8192

	// TokenLimit is above every token: JSON and SQL readers lose no digit.
	TokenLimit = 1 << 53
	// TokenReserve is kept for waits that are queued already: with fewer tokens
	// left no acquire is taken, and a jump leaves at least so many.
	TokenReserve = 1 << 32
	// TokenJump is the least a JumpTokens raises the counter by.
	TokenJump = 1 << 40
)
