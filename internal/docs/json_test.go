package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const jsonPage, jsonCode = "docs/json.md", "uds/jsonapi"

// section are the rows of the one table of a page whose head begins so.
func section(t *testing.T, page, head string) [][]string {
	t.Helper()
	_, rest, found := strings.Cut(read(t, page), "\n| "+head+" |")
	table, _, _ := strings.Cut(rest, "\n\n")
	if !found {
		t.Fatalf("%s has no table of %q", page, head)
	}
	return rows(strings.SplitAfterN(table, "\n", 2)[1])
}

// named are the names that a cell marks as code, in its order.
func named(cell string) (all []string) {
	for _, m := range marked.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

func same(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

var (
	verbFields = regexp.MustCompile(`fields\{"(\w+)", \[\]string\{([^}]*)\}, \[\]string\{([^}]*)\}\}`)
	quotedName = regexp.MustCompile(`"([\w.]+)"`)
)

func quotedNames(list string) (all []string) {
	for _, m := range quotedName.FindAllStringSubmatch(list, -1) {
		all = append(all, m[1])
	}
	return all
}

// Each request of the page of JSON has the fields that the code takes: those
// that must be there, and the others.
func TestJSONRequestsAreTheCode(t *testing.T) {
	code := read(t, jsonCode+"/decode.go")
	told := make(map[string][]string)
	for _, row := range section(t, jsonPage, "request") {
		told[row[0]] = row
	}
	verbs := verbFields.FindAllStringSubmatch(code, -1)
	if len(verbs) != 3 {
		t.Fatalf("%d writes found: %v", len(verbs), verbs)
	}
	for _, m := range verbs {
		row := told["`POST /locks/"+m[1]+"`"]
		if row == nil {
			t.Errorf("%s lacks %s", jsonPage, m[1])
			continue
		}
		if must := quotedNames(m[2]); !same(named(row[1]), must) {
			t.Errorf("%s: to %s there must be %v, says the page, and the code %v", jsonPage, m[1], named(row[1]), must)
		}
		if other := quotedNames(m[3]); !same(named(row[2]), other) {
			t.Errorf("%s: to %s there may be %v, says the page, and the code %v", jsonPage, m[1], named(row[2]), other)
		}
	}
	var fields, takers []string
	for _, row := range section(t, jsonPage, "field | type") {
		fields = append(fields, named(row[0])...)
	}
	for _, m := range regexp.MustCompile(`"(\w+)":\s+func\(q \*asked`).FindAllStringSubmatch(code, -1) {
		takers = append(takers, m[1])
	}
	if !same(fields, takers) {
		t.Errorf("%s explains the fields %v of requests, and the code takes %v", jsonPage, fields, takers)
	}
}

// The parameters of a list are those that the code takes.
func TestJSONParametersAreTheCode(t *testing.T) {
	_, list, _ := strings.Cut(read(t, jsonCode+"/reads.go"), "func listParameter")
	list, _, _ = strings.Cut(list, "\n}\n")
	taken := []string{"metadata.NAME"}
	for _, m := range regexp.MustCompile(`case "(\w+)":`).FindAllStringSubmatch(list, -1) {
		taken = append(taken, m[1])
	}
	var told []string
	for _, row := range section(t, jsonPage, "parameter of `GET /locks`") {
		told = append(told, named(row[0])...)
	}
	if !same(told, taken) {
		t.Errorf("%s has the parameters %v, and the code takes %v", jsonPage, told, taken)
	}
}

// answerTypes are the code's types of the rows of the page's answers.
var answerTypes = map[string]string{
	"`POST /locks/acquire`, `/locks/renew`, `/locks/release`": "lockBody",
	"its `lock`":                    "lock",
	"`GET /locks/{key}`":            "getBody",
	"`GET /locks`":                  "listBody",
	"their `lock` and `locks`":      "readLock",
	"`GET /cluster/info`":           "clusterInfo",
	"its `nodes`":                   "nodeInfo",
	"`GET /healthz`, `GET /readyz`": "healthBody",
	"refusals":                      "errorBody",
	"its `error`":                   "problem",
	"its `holder`":                  "holder",
}

// Each answer of the page has the fields of its type, in their order, and says
// of the same ones that they may be absent. All of them are explained, once.
func TestJSONAnswersAreTheCode(t *testing.T) {
	types := jsonTypes(t)
	var all []string
	for _, row := range section(t, jsonPage, "answer") {
		name, ok := answerTypes[row[0]]
		if !ok {
			t.Errorf("%s tells of %s, which no answer is", jsonPage, row[0])
			continue
		}
		var told []string
		for _, cell := range strings.Split(row[1], ", ") {
			field, absent := strings.Trim(cell, "*`"), strings.HasPrefix(cell, "*")
			all = append(all, field)
			if absent {
				field += " or absent"
			}
			told = append(told, field)
		}
		if !slices.Equal(told, types[name]) {
			t.Errorf("%s: of %s the page says\n%v\nand %s has\n%v", jsonPage, row[0], told, name, types[name])
		}
		delete(types, name)
	}
	if len(types) > 0 {
		t.Errorf("%s lacks the answers %v", jsonPage, slices.Sorted(maps.Keys(types)))
	}
	var explained []string
	for _, row := range section(t, jsonPage, "field | meaning") {
		explained = append(explained, named(row[0])...)
	}
	slices.Sort(all)
	// locks is a list of lock, which the first table is about.
	if all = slices.DeleteFunc(slices.Compact(all), func(f string) bool { return f == "lock" }); !same(explained, all) {
		t.Errorf("%s explains\n%v\nand answers have\n%v", jsonPage, slices.Sorted(slices.Values(explained)), all)
	}
}

// jsonTypes are the fields of every type that the JSON API writes.
func jsonTypes(t *testing.T) map[string][]string {
	t.Helper()
	found := make(map[string][]string)
	files, err := filepath.Glob(filepath.Join(root, jsonCode, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	embedded := make(map[string]string)
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			of, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, f := range of.Fields.List {
				if id, ok := f.Type.(*ast.Ident); ok && len(f.Names) == 0 {
					embedded[spec.Name.Name] = id.Name
				}
				if f.Tag == nil {
					continue
				}
				name, rest, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
				if rest == "omitempty" {
					name += " or absent"
				}
				found[spec.Name.Name] = append(found[spec.Name.Name], name)
			}
			return true
		})
	}
	for name, of := range embedded {
		if found[name] != nil && found[of] != nil {
			found[name] = append(slices.Clone(found[of]), found[name]...)
		}
	}
	if len(found) < 8 {
		t.Fatalf("only %d types found: %v", len(found), found)
	}
	return found
}

// The bounds that the page tells are the code's.
func TestJSONBoundsAreTheCode(t *testing.T) {
	page := read(t, jsonPage)
	for _, c := range []struct{ file, code, page string }{
		{"decode", `nameBytesMax     = 512`, "text, 1 to 512 bytes"},
		{"decode", `metadataBytesMax = 4 << 10`, "object of texts, 4 KiB"},
		{"decode", `ttlMin           = 200 * time.Millisecond`, "200 ms to 24 h"},
		{"decode", `ttlMax           = 24 * time.Hour`, "200 ms to 24 h"},
		{"decode", `versionLimit     = 1 << 53`, "below 2^53"},
		{"reads", `limitMax = 1000`, "1 to 1000"},
		{"handler", `bodyBytesMax = 64 << 10`, "413 a body above 64 KiB"},
		{"../../agent/agent", `behindMax = 1000`, "more than 1000"},
	} {
		if !strings.Contains(read(t, filepath.Join(jsonCode, c.file+".go")), c.code) {
			t.Errorf("%s.go does not say %q: mend %s and this test", c.file, c.code, jsonPage)
		}
		if !strings.Contains(page, c.page) {
			t.Errorf("%s does not say %q", jsonPage, c.page)
		}
	}
}
