package jsonapi

import (
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// mayWrite refuses a write that a web page, or whoever cannot use the
// application socket, could have made.
func (h *Handler) mayWrite(r *http.Request) error {
	if h.c.TCP && !h.c.Writes {
		return denied("writes over TCP are off: use the agent's Unix socket (curl --unix-socket), or start the agent with --http-writes")
	}
	if !h.typed(r) {
		return failure{http.StatusUnsupportedMediaType, invalid("the Content-Type %s: send application/json", quoted(r.Header.Get("Content-Type")))}
	}
	if h.c.TCP && foreign(r) {
		return denied("the Origin header names another origin: locks are not for web pages; ask without one")
	}
	return nil
}

// typed: a page can send what a form sends without asking, and nothing else. On
// the Unix socket there are no pages, and curl -d calls all it sends a form.
func (h *Handler) typed(r *http.Request) bool {
	given := r.Header.Get("Content-Type")
	if given == "" {
		return !h.c.TCP
	}
	kind, params, err := mime.ParseMediaType(given)
	if err != nil {
		return false
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return false
	}
	return kind == "application/json" || !h.c.TCP && kind == "application/x-www-form-urlencoded"
}

// foreign: browsers name the origin of a page that writes; others name none.
func foreign(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return false
	}
	return len(origins) > 1 || !strings.EqualFold(origins[0], "http://"+r.Host)
}

// loopbackHost judges a Host header. A page that gave its own name the address
// 127.0.0.1 still calls it by that name.
func loopbackHost(header string) bool {
	host := header
	if h, _, err := net.SplitHostPort(header); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && ip.Unmap().IsLoopback()
}
