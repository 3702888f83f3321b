package strict

import (
	"encoding/binary"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestNumbersRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.Uint64().Draw(t, "u")
		name := rapid.String().Draw(t, "name")
		b := binary.AppendUvarint(nil, u)
		b = AppendString(b, name)
		r := NewReader(b)
		gotU, gotName := r.Uvarint(math.MaxUint64), r.String(len(name))
		if err := r.End(); err != nil || gotU != u || gotName != name {
			t.Fatalf("got %d, %q, %v; want %d, %q", gotU, gotName, err, u, name)
		}
	})
}

func TestRefusals(t *testing.T) {
	for what, read := range map[string]func() *Reader{
		"overlong number":  func() *Reader { r := NewReader([]byte{0x80, 0}); r.Uvarint(9); return r },
		"number above max": func() *Reader { r := NewReader([]byte{10}); r.Uvarint(9); return r },
		"number cut short": func() *Reader { r := NewReader([]byte{0x80}); r.Uvarint(9); return r },
		"number of 65 bits": func() *Reader {
			r := NewReader([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))
			r.Uvarint(math.MaxUint64)
			return r
		},
		"count not paid for":  func() *Reader { r := NewReader([]byte{3, 0, 0, 0, 0, 0}); r.Count(9, 2); return r },
		"string cut short":    func() *Reader { r := NewReader([]byte{3, 'a'}); r.String(9); return r },
		"fixed width missing": func() *Reader { r := NewReader(make([]byte, 7)); r.Uint64(); return r },
		"trailing byte":       func() *Reader { r := NewReader([]byte{1, 2}); r.Byte(); return r },
	} {
		if err := read().End(); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

func TestFirstFailureStays(t *testing.T) {
	r := NewReader([]byte{1, 2, 3})
	r.Bytes(4)
	first := r.Err()
	if r.Byte() != 0 || r.Uvarint(9) != 0 || r.End() != first {
		t.Fatalf("reads on after %v: %v", first, r.Err())
	}
}
