// Package processes runs a cluster of real agents and real applications: the
// programs that ship, as processes of this host, with kills, stops and cut
// networks. It exists because package sim, which meets more faults in a minute
// than this one in a day, cannot stop a process between a check and its use,
// and knows neither the kernel's sockets and process descriptors nor a disk.
// All of it is in the tests; nobody can import anything.
//
// # What it promises
//
//   - The agents are built from this tree, once a run.
//   - Runs do not meet: each has a network namespace of its own, loopback
//     included, so that every run can have the same addresses and ports.
//   - Nothing stays behind. Processes die with the thread that started them,
//     and namespaces with their last process, however the run ends.
//   - Applications are this test binary, started anew, that does what it is told
//     over a pipe: what they say of themselves (when a lock was granted, whether
//     Valid was ever false) they read from CLOCK_BOOTTIME, as the agents do.
//   - A test fails for a broken promise, never for slowness beyond it. Speeds
//     are printed, one line a figure; aims are written beside them.
//
// # What it does not promise
//
// Anything about clocks: all processes share one. That a race is met: that is
// what the many trials of the long form are for.
//
// # The long form
//
// An ordinary run tries everything a few times. These variables make it long:
//
//	RAFTLOCK_TRIALS    how often each is tried (50); with -parallel 1, so that
//	                   figures are not of two clusters at a time
//	RAFTLOCK_SESSIONS  sessions that are renewed for RAFTLOCK_QUIET (1000)
//	RAFTLOCK_QUIET     how long nothing may enter the log (1m)
//	RAFTLOCK_KEEP      a directory for the agents' logs and state; it stays
//	RAFTLOCK_TRACE     where TestTrace writes its trace, as OTLP JSON
//	RAFTLOCK_PYTHON    a Python with the SDK in it (what make python-venv makes)
//	RAFTLOCK_TAGS      build tags of the agents and the tool. With "mutants",
//	                   RAFTLOCK_MUTANT takes a safety rule out of them (package
//	                   internal/mutant) and leaves it in the applications
//
// It needs Linux 6.5, ip (iproute2), curl, and either root or user namespaces.
package processes
