package schematest

import (
	"fmt"
	"strings"
	"testing"
)

// container is one of a pod template's, by name.
func container(t *testing.T, o object, list, name string) map[string]any {
	t.Helper()
	all, _ := at(o.content, "spec", "template", "spec", list).([]any)
	for _, c := range all {
		if at(c, "name") == name {
			return c.(map[string]any)
		}
	}
	t.Fatalf("%s has no container %s among its %s", o, name, list)
	return nil
}

func find(t *testing.T, kind, name string) object {
	t.Helper()
	for _, o := range objects(t) {
		if o.content["kind"] == kind && at(o.content, "metadata", "name") == name {
			return o
		}
	}
	t.Fatalf("no %s %s", kind, name)
	return object{}
}

// mount is where a container has a volume.
func mount(c map[string]any, volume string) any {
	mounts, _ := c["volumeMounts"].([]any)
	for _, m := range mounts {
		if at(m, "name") == volume {
			return m
		}
	}
	return nil
}

// What no schema knows of the pattern: the agent is a native sidecar that never
// votes, there before the application and after it, and the application cannot
// replace the socket.
func TestSidecarPattern(t *testing.T) {
	o := find(t, "Job", "reporter")
	agent, app := container(t, o, "initContainers", "raftlock"), container(t, o, "containers", "app")
	if agent["restartPolicy"] != "Always" {
		t.Error("an init container that is no sidecar ends before the application begins")
	}
	if agent["startupProbe"] == nil {
		t.Error("the application starts before the socket is there")
	}
	if !strings.Contains(fmt.Sprint(agent["env"]), "forwarder") {
		t.Error("a pod comes and goes: its agent must not vote")
	}
	if at(mount(agent, "raftlock"), "readOnly") == true || at(mount(app, "raftlock"), "readOnly") != true {
		t.Error("the agent writes to the socket's folder, and the application does not")
	}
	if at(mount(agent, "raftlock"), "mountPath") != "/run/raftlock" {
		t.Error("the image's socket is in /run/raftlock")
	}
}

// As many voters as they expect, and never more than two away by somebody's will.
func TestVoters(t *testing.T) {
	o := find(t, "StatefulSet", "raftlock")
	replicas := at(o.content, "spec", "replicas")
	env := fmt.Sprint(container(t, o, "containers", "agent")["env"])
	if replicas != 5 || !strings.Contains(env, "name:RAFTLOCK_EXPECT value:5") {
		t.Errorf("%v replicas, and %s", replicas, env)
	}
	if most := at(find(t, "PodDisruptionBudget", "raftlock").content, "spec", "maxUnavailable"); most != 1 {
		t.Errorf("%v may be unavailable", most)
	}
	if at(find(t, "Service", "raftlock").content, "spec", "publishNotReadyAddresses") != true {
		t.Error("voters find each other before they are ready, or never")
	}
}
