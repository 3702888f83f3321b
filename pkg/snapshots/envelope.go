package snapshots

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/internal/strict"
)

const (
	magic      = "swbltabl"
	version    = 1
	headerSize = len(magic) + 1 + 1 + 1 + 1 + 4
	maxRawBody = 4 << 20 // above what a page or a root of 16 TiB can need
	maxName    = 2 << 10 // of an object, its container included

	bodyStored = 0
	bodyZstd   = 1
)

// Kinds of objects.
const (
	kindPage   = byte(chunks.KindPage)
	kindRoot   = byte(chunks.KindRoot)
	kindRecord = 's'
	kindPin    = 'p'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	compressor = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedBetterCompression),
			zstd.WithEncoderCRC(false), // the envelope has a checksum
			zstd.WithEncoderConcurrency(1),
			zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	})

	decompressor = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxRawBody),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return d
	})
)

// enclose builds the object at of a kind; fields is what follows the name in its
// body.
func enclose(kind byte, at Location, fields []byte) ([]byte, error) {
	body := append(strict.AppendString(make([]byte, 0, len(fields)+256), at.String()), fields...)
	if len(body) > maxRawBody {
		return nil, fmt.Errorf("%s: a body of %d bytes is above the limit of %d", at, len(body), maxRawBody)
	}
	b := append(make([]byte, 0, headerSize+len(body)/2), magic...)
	b = append(b, version, kind, bodyZstd, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = compressor().EncodeAll(body, b)
	if len(b)-headerSize >= len(body) {
		b = append(b[:headerSize], body...)
		b[len(magic)+2] = bodyStored
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// disclose verifies the object at of a kind and returns a reader of the fields
// after the name. Its failures, and those of the reader, are reasons for damage.
func disclose(kind byte, at Location, object []byte) (*strict.Reader, error) {
	if len(object) < headerSize+4 {
		return nil, fmt.Errorf("%d bytes are too few", len(object))
	}
	end := len(object) - 4
	r := strict.NewReader(object[:end])
	if string(r.Bytes(len(magic))) != magic {
		return nil, errors.New("wrong magic")
	}
	v, k, code, reserved, size := r.Byte(), r.Byte(), r.Byte(), r.Byte(), r.Uint32()
	body := r.Bytes(end - headerSize)
	switch {
	case v != version:
		return nil, fmt.Errorf("format version %d, this release reads %d", v, version)
	case crc32.Checksum(object[:end], castagnoli) != binary.LittleEndian.Uint32(object[end:]):
		return nil, strict.ErrChecksum
	case k != kind || reserved != 0 || size > maxRawBody:
		return nil, fmt.Errorf("kind %q with a body of %d bytes", k, size)
	}
	if code == bodyZstd {
		raw, err := decompressor().DecodeAll(body, make([]byte, 0, size))
		if err != nil {
			return nil, err
		}
		body = raw
	} else if code != bodyStored {
		return nil, fmt.Errorf("body code %d", code)
	}
	if len(body) != int(size) {
		return nil, fmt.Errorf("a body of %d bytes instead of %d", len(body), size)
	}
	fields := strict.NewReader(body)
	if name := fields.String(maxName); fields.Err() == nil && name != at.String() {
		return nil, fmt.Errorf("this is the object %q", name)
	}
	return fields, fields.Err()
}

// damaged says that the object at is not what was written under that name.
func damaged(at Location, reason error) error {
	return &strict.Damage{Object: at.String(), Kind: chunks.ErrDamaged, Reason: reason}
}

func appendEpoch(b []byte, e ident.Epoch) []byte {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(b, e.Number), e.Tag)
}

// readEpoch reads an epoch, which must be one.
func readEpoch(r *strict.Reader) ident.Epoch {
	e := ident.Epoch{Number: r.Uvarint(1<<64 - 1), Tag: r.Uint64()}
	if e.IsZero() {
		r.Fail("no epoch")
	}
	return e
}

func appendRef(b []byte, ref Ref) []byte {
	b = binary.AppendUvarint(appendEpoch(b, ref.Epoch), ref.Gen)
	return append(b, ref.Hash[:]...)
}

func readRef(r *strict.Reader) Ref {
	return Ref{Epoch: readEpoch(r), Gen: r.Uvarint(maxGen), Hash: readHash(r)}
}

func readHash(r *strict.Reader) (h Hash) {
	copy(h[:], r.Bytes(len(h)))
	return h
}

// lastTime is the end of the year 9999 in milliseconds. Times outside of 1970 to
// then come from broken clocks and are moved to the next one inside.
const lastTime = 253402300799999

func appendTime(b []byte, t time.Time) []byte {
	return binary.AppendUvarint(b, uint64(min(max(t.UnixMilli(), 0), lastTime)))
}

func readTime(r *strict.Reader) time.Time {
	ms := r.Uvarint(lastTime)
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}
