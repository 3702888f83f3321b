package login

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Limits of a text (RFC 7143 §6.1): longer input is refused before it is kept.
const (
	// MaxText is the most bytes of text that one exchange may carry.
	MaxText  = 16 << 10
	maxKeys  = 128
	maxKey   = 63
	maxValue = 8192 // of an X- key or a SendTargets answer; other values 255
)

// ErrText is returned for a text that is not key=value pairs.
var ErrText = errors.New("malformed iSCSI text")

// Pair is one key=value.
type Pair struct{ Key, Value string }

// ParseText takes a text apart: pairs, each ended by a zero byte.
func ParseText(b []byte) ([]Pair, error) {
	if len(b) > MaxText {
		return nil, fmt.Errorf("%w: %d bytes", ErrText, len(b))
	}
	var pairs []Pair
	for len(b) > 0 {
		var item []byte
		item, b, _ = bytes.Cut(b, []byte{0})
		if len(item) == 0 {
			continue // stray padding, which initiators are known to count in
		}
		key, value, ok := strings.Cut(string(item), "=")
		switch {
		case !ok || key == "" || len(key) > maxKey:
			return nil, fmt.Errorf("%w: no key=value of allowed length", ErrText)
		case len(value) > maxValue:
			return nil, fmt.Errorf("%w: value of %d bytes", ErrText, len(value))
		case len(pairs) == maxKeys:
			return nil, fmt.Errorf("%w: more than %d keys", ErrText, maxKeys)
		}
		pairs = append(pairs, Pair{key, value})
	}
	return pairs, nil
}

// AppendText appends the wire form of pairs to b.
func AppendText(b []byte, pairs ...Pair) []byte {
	for _, p := range pairs {
		b = append(b, p.Key...)
		b = append(b, '=')
		b = append(b, p.Value...)
		b = append(b, 0)
	}
	return b
}
