// Package ident holds the identities that every other package names things by:
// volumes, snapshots, epochs and journal openings, and the one way each of them
// is written in object names, directory names and records.
//
// All identities are drawn at random and are never used again. The textual
// forms use only [0-9a-f-], so they are safe in Swift names, paths and IQNs.
package ident

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Volume is the random 128-bit identity of a volume and its CSI volume handle:
// 32 lower-case hexadecimal digits.
type Volume string

// Snapshot is the random 128-bit identity of a snapshot and its CSI snapshot
// handle: 32 lower-case hexadecimal digits.
type Snapshot string

// NewVolume draws a volume identity.
func NewVolume() Volume { return Volume(random128()) }

// NewSnapshot draws a snapshot identity.
func NewSnapshot() Snapshot { return Snapshot(random128()) }

// ParseVolume checks that s is the textual form of a volume identity.
func ParseVolume(s string) (Volume, error) {
	if err := check128(s); err != nil {
		return "", fmt.Errorf("volume id %.64q: %w", s, err)
	}
	return Volume(s), nil
}

// ParseSnapshot checks that s is the textual form of a snapshot identity.
func ParseSnapshot(s string) (Snapshot, error) {
	if err := check128(s); err != nil {
		return "", fmt.Errorf("snapshot id %.64q: %w", s, err)
	}
	return Snapshot(s), nil
}

// Epoch is one life of one journal of a volume (DESIGN R5): a number that the
// authority counts up and a random tag, so that two epochs that were given the
// same number by a rolled-back authority still differ in every object name.
type Epoch struct {
	Number uint64
	Tag    uint64
}

// NewEpoch gives epoch number n a fresh tag.
func NewEpoch(n uint64) Epoch { return Epoch{Number: n, Tag: Random64()} }

// IsZero reports whether e is no epoch at all; numbers start at 1.
func (e Epoch) IsZero() bool { return e.Number == 0 }

// String returns the form used in object names: "<number>-<tag>" as 8 and 16
// hexadecimal digits.
func (e Epoch) String() string { return fmt.Sprintf("%08x-%016x", e.Number, e.Tag) }

// ParseEpoch is the inverse of [Epoch.String]; other spellings of the same
// numbers are refused, so that a name has one form only.
func ParseEpoch(s string) (Epoch, error) {
	number, tag, ok := strings.Cut(s, "-")
	if ok {
		n, err1 := strconv.ParseUint(number, 16, 64)
		t, err2 := strconv.ParseUint(tag, 16, 64)
		if e := (Epoch{n, t}); err1 == nil && err2 == nil && e.String() == s {
			return e, nil
		}
	}
	return Epoch{}, fmt.Errorf("epoch %.64q: want <number>-<tag> in hexadecimal", s)
}

// MarshalText returns [Epoch.String]: as a number in JSON, half of all tags would
// not survive a reader that keeps 63 bits, such as Kubernetes.
func (e Epoch) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText is [ParseEpoch].
func (e *Epoch) UnmarshalText(text []byte) (err error) {
	*e, err = ParseEpoch(string(text))
	return err
}

// Open is the tag drawn at each opening of a journal. Objects uploaded by two
// openings never share a name, whatever the first one had got done.
type Open uint64

// NewOpen draws an opening tag; it is never zero.
func NewOpen() Open { return Open(Random64()) }

// String returns 16 hexadecimal digits.
func (o Open) String() string { return fmt.Sprintf("%016x", uint64(o)) }

// Random64 returns a random number that is not zero.
func Random64() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if n := binary.LittleEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}

func random128() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func check128(s string) error {
	if len(s) != 32 {
		return fmt.Errorf("want 32 hexadecimal digits, have %d characters", len(s))
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("want lower-case hexadecimal digits only")
		}
	}
	return nil
}
