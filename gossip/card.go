package gossip

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/serf/serf"
)

// Bounds of what a card may say. All at their longest, a card fits into the 512
// bytes that memberlist has for a node's tags.
const (
	nameBytesMax    = 128
	addressBytesMax = 140
	idBytesMax      = 64
)

// Keys of the tags. They are short because they count against the 512 bytes.
// Tags that are not known are left alone: newer agents may have more.
const (
	tagName        = "n"
	tagIncarnation = "i"
	tagStarted     = "t"
	tagAddress     = "p"
	tagServerID    = "s"
	tagClusterID   = "c"
	tagRole        = "r"
)

// roleForwarder is the one role that gossip tells: told never to vote. Who votes
// is Raft's configuration to say; other roles, of newer agents, are passed over.
const roleForwarder = "forwarder"

// A card is what an agent says of itself.
type card struct {
	name        string
	incarnation uint64
	// started is the wall clock of the start in unix milliseconds. It only orders
	// starts of one agent, whose incarnations are random.
	started             int64
	address             string
	serverID, clusterID string
	forwarder           bool
}

func (c card) tags() map[string]string {
	tags := map[string]string{
		tagName:        c.name,
		tagIncarnation: strconv.FormatUint(c.incarnation, 16),
		tagStarted:     strconv.FormatInt(c.started, 36),
		tagAddress:     c.address,
	}
	for key, value := range map[string]string{tagServerID: c.serverID, tagClusterID: c.clusterID} {
		if value != "" {
			tags[key] = value
		}
	}
	if c.forwarder {
		tags[tagRole] = roleForwarder
	}
	return tags
}

// node is the card's name in Serf. With the incarnation in it, a new start is a
// new node: memberlist refuses a known node at a new address until it is sure
// that the old one is dead.
//
// Danger: no slash. Serf dials a failed node as NAME/ADDRESS and memberlist cuts
// at the first slash, so a name with one is never reconnected to.
func (c card) node() string {
	return c.name + "#" + strconv.FormatUint(c.incarnation, 16)
}

// readCard checks what a member, who may be anybody, says.
func readCard(m *serf.Member) (card, error) {
	c := card{
		name:      m.Tags[tagName],
		address:   m.Tags[tagAddress],
		serverID:  m.Tags[tagServerID],
		clusterID: m.Tags[tagClusterID],
		forwarder: m.Tags[tagRole] == roleForwarder,
	}
	var err error
	if c.incarnation, err = strconv.ParseUint(m.Tags[tagIncarnation], 16, 64); err != nil {
		return card{}, errors.New("its incarnation is no number")
	}
	if c.started, err = strconv.ParseInt(m.Tags[tagStarted], 36, 64); err != nil {
		return card{}, errors.New("its start is no number")
	}
	switch {
	case !isName(c.name):
		return card{}, errors.New("its name cannot be one")
	case c.node() != m.Name:
		return card{}, errors.New("it has the name of another")
	case !isAddress(c.address):
		return card{}, errors.New("its peer address is no host:port")
	case !isID(c.serverID), !isID(c.clusterID):
		return card{}, errors.New("its ids cannot be ones")
	}
	return c, nil
}

func isName(name string) bool {
	return name != "" && len(name) <= nameBytesMax && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r == ' ' || !unicode.IsPrint(r) })
}

func isAddress(address string) bool {
	if !isPlain(address, addressBytesMax) {
		return false
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || !isHost(host) || isWildcard(host) {
		return false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && number > 0
}

// isID accepts the empty one, which says that there is none yet.
func isID(id string) bool { return isPlain(id, idBytesMax) }

// isPlain accepts ASCII that can be seen.
func isPlain(text string, bytesMax int) bool {
	if len(text) > bytesMax {
		return false
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
