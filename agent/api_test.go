package agent

import (
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// What one application asks for never makes a frame that the link, which all of
// its host share, could not carry; a stale read neither keeps a replica busy
// comparing.
func TestReadsAreBounded(t *testing.T) {
	s := NewAPI(&Agent{}, APIConfig{Log: slog.New(slog.DiscardHandler)})
	long := strings.Repeat("x", queryBytesMax)
	for name, q := range map[string]*api.ListRequest{
		"prefix":   {Prefix: long},
		"pattern":  {Pattern: strings.Repeat("*x", 257), Stale: true},
		"metadata": {Metadata: map[string]string{"k": long}},
	} {
		_, err := s.List(t.Context(), q)
		if st, info := infoOf(t, err); st.Code() != codes.InvalidArgument || info.Reason != "INVALID" {
			t.Errorf("%s: %v %v", name, st, info)
		}
	}
}
