package jsonapi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

const (
	limitMax = 1000
	// metadataPrefix begins the parameters that name metadata.
	metadataPrefix = "metadata."
)

// notHeld: a lock that nobody holds is not kept, so there is none to show.
var notHeld = local(codes.NotFound, api.Reason_REASON_NOT_FOUND, "nobody holds the lock: POST /locks/acquire takes it")

type getBody struct {
	Success bool     `json:"success"`
	Lock    readLock `json:"lock"`
	Stale   bool     `json:"stale"`
	Index   uint64   `json:"index"`
}

type listBody struct {
	Success bool       `json:"success"`
	Locks   []readLock `json:"locks"`
	// Next is what to give as after for the next page; absent: this is the last.
	Next  string `json:"next,omitempty"`
	Stale bool   `json:"stale"`
	Index uint64 `json:"index"`
}

func (h *Handler) getLock(w http.ResponseWriter, r *http.Request) {
	key, err := keyOf(r)
	if err != nil {
		refuse(w, err)
		return
	}
	q := &api.GetRequest{Lock: key}
	if err := parameters(r, func(name, value string) (err error) {
		if name != "stale" {
			return unknownParameter(name, "stale")
		}
		q.Stale, err = truth(name, value)
		return err
	}); err != nil {
		refuse(w, err)
		return
	}
	a, err := h.c.API.Get(r.Context(), q)
	switch {
	case err != nil:
		refuse(w, err)
	case !a.GetLock().GetHeld():
		refuse(w, notHeld)
	default:
		answer(w, http.StatusOK, getBody{Success: true, Lock: h.readLock(a.Lock), Stale: a.Stale, Index: a.Index})
	}
}

func (h *Handler) list(w http.ResponseWriter, r *http.Request) {
	q := &api.ListRequest{}
	if err := parameters(r, func(name, value string) error { return listParameter(q, name, value) }); err != nil {
		refuse(w, err)
		return
	}
	ctx, rest, done, err := h.c.Gate.Page(r.Context(), q.Stale)
	if err != nil {
		refuse(w, err)
		return
	}
	defer done()
	a, err := h.c.API.List(ctx, q)
	if err != nil {
		rest()
		refuse(w, err)
		return
	}
	out := listBody{Success: true, Locks: []readLock{}, Next: a.GetNext(), Stale: a.GetStale(), Index: a.GetIndex()}
	for _, l := range a.GetLocks() {
		out.Locks = append(out.Locks, h.readLock(l))
	}
	page := encoded(out)
	rest() // whoever reads slowly keeps nobody else from their turn
	send(w, http.StatusOK, page)
}

func listParameter(q *api.ListRequest, name, value string) (err error) {
	switch name {
	case "prefix":
		q.Prefix = value
	case "pattern":
		q.Pattern = value
	case "owner":
		q.Owner = value
	case "after":
		q.After = value
	case "contested":
		q.Contested, err = truth(name, value)
	case "stale":
		q.Stale, err = truth(name, value)
	case "limit":
		n, wrong := strconv.ParseUint(value, 10, 32)
		if wrong != nil || n < 1 || n > limitMax {
			return invalid("limit=%s: give a number from 1 to %d", quoted(value), limitMax)
		}
		q.Limit = uint32(n)
	default:
		key, ok := strings.CutPrefix(name, metadataPrefix)
		if !ok || key == "" {
			return unknownParameter(name, "prefix, pattern, owner, contested, metadata.NAME, after, limit, stale")
		}
		if q.Metadata == nil {
			q.Metadata = make(map[string]string)
		}
		q.Metadata[key] = value
	}
	return err
}

// parameters hands out the query's, each of which may be there once and has a
// value: "prefix=" would say nothing, and may be a slip for everything.
func parameters(r *http.Request, take func(name, value string) error) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("the query (%v): write a percent sign as %%25, a semicolon as %%3B", err)
	}
	for name, all := range values {
		switch {
		case len(all) > 1:
			return invalid("%s is there %d times, leave one", quoted(name), len(all))
		case all[0] == "" && !strings.HasPrefix(name, metadataPrefix):
			return invalid("%s has no value: give one, or leave it out", quoted(name))
		}
		if err := take(name, all[0]); err != nil {
			return err
		}
	}
	return nil
}

func unknownParameter(name, known string) error {
	return invalid("there is no parameter %s; there are: %s", quoted(name), known)
}

func truth(name, value string) (bool, error) {
	switch value {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, invalid("%s=%s: give true or false", name, quoted(value))
}
