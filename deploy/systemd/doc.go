// Package systemd holds the units by which systemd runs the agent, and the tests
// that run them: systemd's own checks of them, and a systemd of its own, booted
// as the first process of new namespaces, that starts, restarts and watches the
// agent as it does on a host.
//
// It promises that the units as installed by "make install" work with systemd
// 252 and later. It exports nothing.
package systemd
