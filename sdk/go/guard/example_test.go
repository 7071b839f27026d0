package guard_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/raftlock/raftlock/sdk/go/guard"
)

// A service that takes writes over HTTP stands before a store that knows no
// tokens. Its clients send the token of their lock with each write.
func Example_http() {
	dir, err := os.MkdirTemp("", "guard")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	g, err := guard.Open(filepath.Join(dir, "tokens"))
	if err != nil {
		panic(err)
	}
	defer func() { _ = g.Close() }()

	report := ""
	put := func(w http.ResponseWriter, r *http.Request) {
		token, err := strconv.ParseUint(r.Header.Get("Raftlock-Token"), 10, 64)
		if err != nil {
			http.Error(w, "a write needs its lock's token", http.StatusPreconditionRequired)
			return
		}
		// The write is inside: after it, a newer holder may have been here.
		err = g.Do(r.Context(), "report", token, func(context.Context) error {
			report = r.URL.Query().Get("text")
			return nil
		})
		switch {
		case errors.Is(err, guard.ErrStale):
			http.Error(w, err.Error(), http.StatusPreconditionFailed)
		case err != nil:
			http.Error(w, "try again later", http.StatusServiceUnavailable)
		}
	}

	for _, write := range []struct{ token, text string }{
		{"33", "first"}, {"34", "second"}, {"33", "late"}, {"34", "third"}, {"", "by nobody"},
	} {
		r := httptest.NewRequest(http.MethodPut, "/report?text="+strings.ReplaceAll(write.text, " ", "+"), nil)
		r.Header.Set("Raftlock-Token", write.token)
		w := httptest.NewRecorder()
		put(w, r)
		fmt.Println(w.Code, report)
	}
	// Output:
	// 200 first
	// 200 second
	// 412 second
	// 200 third
	// 428 third
}

// A database checks by itself, in the statement that writes: no guard is
// needed, and it does not matter who else writes.
func Example_sql() {
	save := func(ctx context.Context, db *sql.DB, id string, balance int, token uint64) error {
		result, err := db.ExecContext(ctx,
			`UPDATE accounts SET balance = ?, token = ? WHERE id = ? AND token <= ?`, balance, token, id, token)
		if err != nil {
			return err
		}
		rows, err := result.RowsAffected()
		if err == nil && rows == 0 {
			return fmt.Errorf("account %s: a newer holder was here, or there is none: %w", id, guard.ErrStale)
		}
		return err
	}
	_ = save
}

func ExampleGuard_Check() {
	g := guard.New()
	fmt.Println(g.Check("printer", 33))
	fmt.Println(g.Check("printer", 34))
	err := g.Check("printer", 33)
	var stale *guard.StaleError
	fmt.Println(errors.As(err, &stale), stale.Token, stale.Highest)
	// Output:
	// <nil>
	// <nil>
	// true 33 34
}
