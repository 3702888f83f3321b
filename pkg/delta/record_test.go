package delta

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

func sampleHeader() header {
	return header{
		kind: kindSeal, clean: true,
		id:   Identity{Volume: "000102030405060708090a0b0c0d0e0f", Epoch: ident.Epoch{Number: 7, Tag: 0x1122334455667788}},
		open: 0x99, gen: 3, seq: 42, durable: 40, segment: 5, prev: 0xDEADBEEF,
		state:    State{Size: 1 << 30, Formatted: Formatted},
		snapshot: "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
		sealed:   1_700_000_000_000_000_000,
		extents: []extent{
			{off: 3 * Sector, n: 8192, crcs: []uint32{1, 2, 3}},
			{off: MaxVolume - Sector, n: Sector, zero: true},
		},
	}
}

// The bytes of a header are the format: they must not change by accident.
func TestHeaderGolden(t *testing.T) {
	h := sampleHeader()
	p := make([]byte, headerSize)
	sum := h.encode(p)
	const golden = "53426c6f67726563010004" + "01efbeadde000102030405060708090a0b0c0d0e0f0700000000000000887766554433221199000000000000000300000000000000" +
		"2a0000000000000028000000000000000500000000000000000000400000000002000200" + "03000000f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff00002a36fe9c9717" +
		"03000000000000001000000000000000ffffffff070000800100000000000000010000000200000003000000"
	if got := hex.EncodeToString(p[:172]); got != golden {
		t.Errorf("header is\n%s, want\n%s", got, golden)
	}
	back, sum2, err := decodeHeader(p)
	if err != nil || sum != sum2 || !reflect.DeepEqual(back, h) {
		t.Errorf("decoded %+v, %v", back, err)
	}
}

func TestAnchorRoundTrip(t *testing.T) {
	a := anchor{id: sampleHeader().id, counter: 9, segment: 64 << 20, slots: 160, retired: 4, tail: tail{5, 6, 7}}
	p := make([]byte, Block)
	a.encode(p)
	const golden = "5342616e63686f72010000000000000000010203" // the beginning
	if got := hex.EncodeToString(p[:len(golden)/2]); got != golden {
		t.Errorf("anchor begins with %s", got)
	}
	if b, err := decodeAnchor(p); err != nil || a != b {
		t.Errorf("decoded %+v, %v", b, err)
	}
	p[80] ^= 1
	if _, err := decodeAnchor(p); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged anchor: %v", err)
	}
}

// The format of an encrypted journal: its version, the key check and the keystream.
func TestEncryptedGolden(t *testing.T) {
	secret := keys.Secret([]byte("0123456789abcdef0123456789ABCDEF"))
	h := sampleHeader()
	h.encrypted = true
	p := make([]byte, headerSize)
	h.encode(p)
	if got, want := hex.EncodeToString(p[:12]), "53426c6f67726563020004"+"01"; got != want {
		t.Errorf("header begins with %s, want %s", got, want)
	}
	if back, _, err := decodeHeader(p); err != nil || !reflect.DeepEqual(back, h) {
		t.Errorf("decoded %+v, %v", back, err)
	}

	a := anchor{id: h.id, segment: 64 << 20, slots: 160, tail: tail{5, 6, 7}, encrypted: true, check: h.id.keyCheck(&secret)}
	p = make([]byte, Block)
	a.encode(p)
	if got, want := hex.EncodeToString(p[:10])+hex.EncodeToString(p[100:116]), "5342616e63686f720200"+"b3d8d1b3ad057aaf8b6b1672c3d8dd8c"; got != want {
		t.Errorf("version and key check of the anchor are %s, want %s", got, want)
	}
	if b, err := decodeAnchor(p); err != nil || a != b {
		t.Errorf("decoded %+v, %v", b, err)
	}

	j := &Journal{cfg: Config{Key: &secret}, id: h.id}
	stream := make([]byte, 32)
	j.pad(0x99).xor(stream, 5, 2*Block)
	if got, want := hex.EncodeToString(stream), "e61d0b3e636d2f602680540128fed8a0ee7c03940934605e1a1d0069c6e704f2"; got != want {
		t.Errorf("keystream is %s, want %s", got, want)
	}
}

// Whatever lies in a segment, decoding it neither panics nor accepts what
// encoding would not produce.
func FuzzDecodeHeader(f *testing.F) {
	h := sampleHeader()
	p := make([]byte, headerSize)
	h.encode(p)
	f.Add(p)
	f.Add(make([]byte, headerSize))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < headerSize {
			return
		}
		p = p[:headerSize]
		fixed := bytes.Clone(p) // past the checksum, where the decoder's own checks count
		putSum(fixed)
		for _, p := range [][]byte{p, fixed} {
			h, _, err := decodeHeader(p)
			if err != nil {
				continue
			}
			if h.dataBlocks() > maxBlocks || h.durable >= h.seq {
				t.Fatalf("accepted %+v", h)
			}
			again := make([]byte, headerSize)
			h.encode(again)
			if !bytes.Equal(again, p) {
				t.Fatalf("%+v has two encodings", h)
			}
		}
	})
}

func putSum(p []byte) {
	sum := checksum(p[:crcAt])
	p[crcAt], p[crcAt+1], p[crcAt+2], p[crcAt+3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
}
