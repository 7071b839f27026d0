package jsonapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// gate writes down what happens, in its order.
type gate struct {
	saw  []string
	deny string
}

type entry struct{}

func (g *gate) note(what string) { g.saw = append(g.saw, what) }

func (g *gate) step(ctx context.Context, what string) (context.Context, func(), error) {
	if g.deny == what {
		return ctx, nil, denied("not now")
	}
	g.note(what)
	return context.WithValue(ctx, entry{}, what), func() { g.note("end of " + what) }, nil
}

func (g *gate) EnterRead(ctx context.Context) (context.Context, func(), error) {
	return g.step(ctx, "read")
}

func (g *gate) EnterAcquire(ctx context.Context) (context.Context, func(), error) {
	return g.step(ctx, "acquire")
}

func (g *gate) Parse(ctx context.Context) (func(), error) {
	_, done, err := g.step(ctx, "parse")
	return done, err
}

func (g *gate) Page(ctx context.Context, _ bool) (in context.Context, rest, done func(), err error) {
	in, done, err = g.step(ctx, "page")
	return in, func() { g.note("rest") }, done, err
}

// writer and body tell the gate when they are used.
type writer struct {
	*httptest.ResponseRecorder
	g *gate
}

func (w writer) Write(b []byte) (int, error) {
	w.g.note("written")
	return w.ResponseRecorder.Write(b)
}

type body struct {
	*strings.Reader
	g *gate
}

func (b body) Read(p []byte) (int, error) {
	if b.Len() > 0 {
		b.g.note("body")
	}
	return b.Reader.Read(p)
}

// A caller is counted before its body is read and until its answer is written;
// what is heavy has its turn, which no slow caller keeps; and what keeps or gives
// up a lock waits for neither.
func TestGate(t *testing.T) {
	for _, c := range []struct {
		name, method, target string
		want                 []string
	}{
		{"acquire", "POST", "/locks/acquire", []string{"acquire", "body", "parse", "end of parse", "asked", "written", "end of acquire"}},
		{"renew", "POST", "/locks/renew", []string{"body", "asked", "written"}},
		{"release", "POST", "/locks/release", []string{"body", "asked", "written"}},
		{"list", "GET", "/locks", []string{"read", "page", "asked", "rest", "written", "end of page", "end of read"}},
		{"get", "GET", "/locks/k", []string{"read", "asked", "written", "end of read"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			serve := func(deny string) (*httptest.ResponseRecorder, []string) {
				g := &gate{deny: deny}
				conf := config(&fake{})
				conf.API, conf.Gate = &noted{g: g}, g
				text := ""
				if c.method == "POST" {
					text = `{"key":"k","owner":"o"` + map[bool]string{true: `,"ttl":"1s"`}[c.name == "acquire"] + `}`
				}
				r := httptest.NewRequest(c.method, c.target, body{strings.NewReader(text), g})
				w := httptest.NewRecorder()
				New(conf).ServeHTTP(writer{w, g}, r)
				return w, g.saw
			}
			if w, saw := serve(""); !slices.Equal(slices.Compact(saw), c.want) {
				t.Errorf("%d: %v", w.Code, saw)
			}
			for _, deny := range []string{"read", "acquire", "parse", "page"} {
				if !slices.Contains(c.want, deny) {
					continue
				}
				w, saw := serve(deny)
				if w.Code != http.StatusForbidden || slices.Contains(saw, "asked") || slices.Contains(saw, deny) {
					t.Errorf("kept at %s: %d %v", deny, w.Code, saw)
				}
				for _, begun := range saw {
					if slices.Contains([]string{"read", "acquire"}, begun) && !slices.Contains(saw, "end of "+begun) {
						t.Errorf("kept at %s: %s has no end", deny, begun)
					}
				}
			}
		})
	}
}

// noted refuses all, and notes that it was asked.
type noted struct {
	api.UnimplementedRaftLockServer
	g *gate
}

func (n *noted) no() error { n.g.note("asked"); return errors.New("no") }

func (n *noted) Acquire(context.Context, *api.AcquireRequest) (*api.AcquireResponse, error) {
	return nil, n.no()
}

func (n *noted) Renew(context.Context, *api.RenewRequest) (*api.RenewResponse, error) {
	return nil, n.no()
}

func (n *noted) Release(context.Context, *api.ReleaseRequest) (*api.ReleaseResponse, error) {
	return nil, n.no()
}

func (n *noted) Get(context.Context, *api.GetRequest) (*api.GetResponse, error) { return nil, n.no() }

func (n *noted) List(context.Context, *api.ListRequest) (*api.ListResponse, error) {
	n.g.note("asked")
	return &api.ListResponse{}, nil
}

// Thousands of pairs are not read after the one that is too much.
func TestMetadataIsReadToItsBoundOnly(t *testing.T) {
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, `,"%d":"\u0041"`, i)
	}
	short := `{"a":"` + strings.Repeat("x", 4096) + `"`
	_, err := metadataOf([]byte(short + b.String() + "}"))
	if err == nil {
		t.Fatal("taken")
	}
	few := testing.AllocsPerRun(5, func() { _, _ = metadataOf([]byte(short + "}")) })
	if many := testing.AllocsPerRun(5, func() { _, _ = metadataOf([]byte(short + b.String() + "}")) }); many > few+10 {
		t.Errorf("%.0f allocations, %.0f without what follows", many, few)
	}
}

// What is read without a turn is small.
func TestBodiesWithoutMetadataAreSmall(t *testing.T) {
	text := `{"key":"k","owner":"o","version":"` + strings.Repeat("x", 20<<10) + `"}`
	for _, path := range []string{"/locks/renew", "/locks/release"} {
		w := ask(config(&fake{}), "POST", path, text, nil)
		if p := told(t, w); w.Code != http.StatusRequestEntityTooLarge || p.Applied != "no" {
			t.Errorf("%s: %d %+v", path, w.Code, p)
		}
	}
}
