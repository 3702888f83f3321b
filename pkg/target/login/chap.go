package login

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"
)

// CHAP holds the credentials of a target (RFC 7143 §12.1.3). They are compared
// in constant time and never put into an error or a log.
type CHAP struct {
	// User and Secret are what the initiator proves; no User: no CHAP.
	User, Secret string
	// MutualUser and MutualSecret are what the target proves to an initiator
	// that asks for it; no MutualUser: such an initiator is refused.
	MutualUser, MutualSecret string
}

func (c CHAP) required() bool { return c.User != "" }

// algorithms by their number in CHAP_A.
var algorithms = map[string]func() hash.Hash{
	"5": md5.New,
	"6": sha1.New,
	"7": sha256.New,
	"8": func() hash.Hash { return sha3.New256() },
}

const (
	challengeLen = 32   // bytes that we send
	maxBinary    = 1024 // bytes of a binary value (RFC 7143 §12.1.3)
)

// exchange is one run of CHAP: algorithm chosen, challenge sent, answered.
type exchange struct {
	new       func() hash.Hash
	id        byte
	challenge []byte
}

// begin picks the first algorithm of the initiator's list that is known.
func (e *exchange) begin(list string) (answer []Pair, ok bool) {
	for a := range strings.SplitSeq(list, ",") {
		if e.new = algorithms[a]; e.new == nil {
			continue
		}
		e.challenge = make([]byte, challengeLen)
		rand.Read(e.challenge)
		var id [1]byte
		rand.Read(id[:])
		e.id = id[0]
		return []Pair{
			{"CHAP_A", a},
			{"CHAP_I", strconv.Itoa(int(e.id))},
			{"CHAP_C", encodeBinary(e.challenge)},
		}, true
	}
	return nil, false
}

// check verifies the initiator's name and response, and answers its own
// challenge if there is one. Name and response are always both computed, so
// that time tells nothing of which was wrong.
func (e *exchange) check(c CHAP, keys map[string]string) (answer []Pair, ok bool) {
	response, valid := decodeBinary(keys["CHAP_R"])
	want := e.response(e.id, c.Secret, e.challenge)
	right := subtle.ConstantTimeCompare([]byte(keys["CHAP_N"]), []byte(c.User))
	right &= subtle.ConstantTimeCompare(response, want)
	if !valid || right != 1 {
		return nil, false
	}
	identifier, mutual := keys["CHAP_I"]
	if !mutual {
		return nil, true
	}
	id, err := strconv.ParseUint(identifier, 0, 8)
	challenge, valid := decodeBinary(keys["CHAP_C"])
	// Our own challenge sent back would make us answer it (RFC 7143 §9.2.1).
	if err != nil || !valid || c.MutualUser == "" || len(challenge) == 0 ||
		subtle.ConstantTimeCompare(challenge, e.challenge) == 1 {
		return nil, false
	}
	return []Pair{
		{"CHAP_N", c.MutualUser},
		{"CHAP_R", encodeBinary(e.response(byte(id), c.MutualSecret, challenge))},
	}, true
}

func (e *exchange) response(id byte, secret string, challenge []byte) []byte {
	h := e.new()
	h.Write([]byte{id})
	h.Write([]byte(secret))
	h.Write(challenge)
	return h.Sum(nil)
}

func encodeBinary(b []byte) string { return "0x" + hex.EncodeToString(b) }

// decodeBinary reads a large binary value (RFC 7143 §6.1): 0x and hexadecimal
// digits, of which the leading zero may be left out, or 0b and base64.
func decodeBinary(s string) ([]byte, bool) {
	if len(s) < 2 || len(s) > 2+2*maxBinary {
		return nil, false
	}
	var (
		b   []byte
		err error
	)
	switch digits := s[2:]; strings.ToLower(s[:2]) {
	case "0x":
		if len(digits)%2 == 1 {
			digits = "0" + digits
		}
		b, err = hex.DecodeString(digits)
	case "0b":
		b, err = base64.StdEncoding.DecodeString(digits)
	default:
		return nil, false
	}
	return b, err == nil && len(b) <= maxBinary
}
