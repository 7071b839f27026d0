// Package schematest checks the files of deploy that other programs read against
// those programs' own schemas: the Compose file by the loader that Docker Compose
// is made of, the Kubernetes manifests by the OpenAPI documents that Kubernetes
// publishes. It is a module of its own, so that the loader is no dependency of
// RaftLock, and has nothing but tests.
//
// It promises that what a schema can tell is right, unknown fields included. It
// does not run anything: whether an image exists or a probe answers, no schema
// tells.
package schematest
