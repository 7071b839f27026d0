// Package docker holds the image of the agent and a Compose file, and the tests
// that need no Docker: the image's root file system is made as the Dockerfile
// says, which is read and not repeated, and run in a chroot as the image's user.
//
// It does not promise that an image builder reads the Dockerfile alike: what the
// tests do not understand of it fails them. It exports nothing.
package docker
