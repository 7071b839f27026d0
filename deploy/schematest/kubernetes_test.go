package schematest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// The OpenAPI documents of Kubernetes 1.30, as kubectl-validate carries them. The
// module's files are read, none of its code is built; the sum is what pins them.
// 1.29 is the first version with sidecar containers on by default.
const (
	openAPIModule  = "sigs.k8s.io/kubectl-validate@v0.0.4"
	openAPISum     = "h1:tGKuv0awYHn11Cb6KPsZKxUmHgavF46K3NvVH0Nse9U="
	openAPIVersion = "1.30"
)

var openAPI = sync.OnceValues(func() (dir string, err error) {
	cmd := exec.Command("go", "mod", "download", "-json", openAPIModule)
	cmd.Dir = os.TempDir() // of no module
	out, err := cmd.Output()
	var module struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &module); jsonErr != nil {
		return "", errors.Join(err, jsonErr)
	}
	if module.Sum != openAPISum {
		return "", fmt.Errorf("%s has the sum %q, not %q: %s", openAPIModule, module.Sum, openAPISum, module.Error)
	}
	return filepath.Join(module.Dir, "pkg/openapiclient/builtins", openAPIVersion), nil
})

// object is one Kubernetes object of a file.
type object struct {
	file    string
	content map[string]any
}

func (o object) String() string {
	return fmt.Sprintf("%s: %v %v", o.file, o.content["kind"], at(o.content, "metadata", "name"))
}

// objects are those of all manifests.
func objects(t *testing.T) (all []object) {
	t.Helper()
	files, err := filepath.Glob("../kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		for d := yaml.NewDecoder(f); ; {
			o := object{file: filepath.Base(file)}
			err := d.Decode(&o.content)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all = append(all, o)
		}
		_ = f.Close() // it was only read
	}
	return all
}

// at follows keys and indexes; nil where there is nothing.
func at(from any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := from.(map[string]any)
			from = m[step]
		case int:
			l, _ := from.([]any)
			if step >= len(l) {
				return nil
			}
			from = l[step]
		}
	}
	return from
}

// strict forbids, wherever fields are listed, all others, as the API server does
// with fieldValidation=Strict.
func strict(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if _, fields := s["properties"].(map[string]any); fields && s["additionalProperties"] == nil {
			s["additionalProperties"] = false
		}
		for _, inner := range s {
			strict(inner)
		}
	case []any:
		for _, inner := range s {
			strict(inner)
		}
	}
}

// schemaOf is the schema of an apiVersion and a kind.
func schemaOf(apiVersion, kind string) (*jsonschema.Schema, error) {
	dir, err := openAPI()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "apis", apiVersion+".json")
	if !strings.Contains(apiVersion, "/") {
		path = filepath.Join(dir, "api", apiVersion+".json")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("no such apiVersion: %w", err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		return nil, err
	}
	schemas, _ := at(doc, "components", "schemas").(map[string]any)
	strict(schemas)
	for name, schema := range schemas {
		kinds, _ := at(schema, "x-kubernetes-group-version-kind").([]any)
		for _, k := range kinds {
			group, version := fmt.Sprint(at(k, "group")), fmt.Sprint(at(k, "version"))
			if at(k, "kind") != kind || strings.TrimPrefix(group+"/"+version, "/") != apiVersion {
				continue
			}
			c := jsonschema.NewCompiler()
			if err := c.AddResource("kubernetes.json", doc); err != nil {
				return nil, err
			}
			return c.Compile("kubernetes.json#/components/schemas/" + name)
		}
	}
	return nil, fmt.Errorf("%s has no %s", apiVersion, kind)
}

func check(o object) error {
	apiVersion, _ := o.content["apiVersion"].(string)
	kind, _ := o.content["kind"].(string)
	schema, err := schemaOf(apiVersion, kind)
	if err != nil {
		return err
	}
	text, err := json.Marshal(o.content)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

func TestManifests(t *testing.T) {
	for _, o := range objects(t) {
		if err := check(o); err != nil {
			t.Errorf("%s: %v", o, err)
		}
	}
}

// The check would see what is wrong.
func TestManifestsWithMistakes(t *testing.T) {
	for name, spoil := range map[string]func(spec map[string]any){
		"a field that does not exist": func(s map[string]any) { s["replica"] = 5 },
		"a text for a number":         func(s map[string]any) { s["replicas"] = "five" },
		"a field that is needed":      func(s map[string]any) { delete(s, "selector") },
		"a field deep inside": func(s map[string]any) {
			at(s, "template", "spec", "containers", 0).(map[string]any)["readynessProbe"] = map[string]any{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, o := range objects(t) {
				if o.content["kind"] == "StatefulSet" {
					spoil(o.content["spec"].(map[string]any))
					if check(o) == nil {
						t.Error("not seen")
					}
				}
			}
		})
	}
}
