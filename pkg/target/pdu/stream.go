package pdu

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Digests says which parts of a PDU are followed by a CRC32C.
type Digests struct{ Header, Data bool }

// Errors of a Reader other than those of its source. After any of them the
// place in the stream is not known any more, or not trusted.
var (
	ErrDigest  = errors.New("iSCSI digest does not match")
	ErrTooLong = errors.New("iSCSI data segment longer than agreed")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readAhead is the Reader's buffer in bytes: several small requests in one read of the
// source. Longer data segments bypass it but for their beginning, which is copied
// twice.
const readAhead = 16 << 10

// Reader takes a stream apart. After each Next, the data segment must be taken
// with Data or Skip.
type Reader struct {
	// Digests in use; may be set between PDUs.
	Digests Digests
	// MaxData is the longest data segment to accept, in bytes.
	MaxData int

	src   *bufio.Reader
	ahs   [255 * 4]byte
	tail  [8]byte
	left  int // bytes of the data segment that were not taken yet
	total int // its length
	crc   uint32
}

// NewReader reads PDUs from src.
func NewReader(src io.Reader, maxData int) *Reader {
	return &Reader{src: bufio.NewReaderSize(src, readAhead), MaxData: maxData}
}

// Next reads the next header.
func (r *Reader) Next(h *Header) error {
	if _, err := io.ReadFull(r.src, h[:]); err != nil {
		return err
	}
	ahs := r.ahs[:h.AHSLen()]
	if _, err := io.ReadFull(r.src, ahs); err != nil {
		return noEOF(err)
	}
	if r.Digests.Header {
		crc := crc32.Update(crc32.Checksum(h[:], castagnoli), castagnoli, ahs)
		if err := r.checkDigest(crc); err != nil {
			return fmt.Errorf("header: %w", err)
		}
	}
	if h.DataLen() > r.MaxData {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, h.DataLen(), r.MaxData)
	}
	r.total, r.left, r.crc = h.DataLen(), h.DataLen(), 0
	return nil
}

// Data reads the rest of the data segment into the beginning of p, which must
// hold it, and checks its digest.
func (r *Reader) Data(p []byte) error {
	if r.total == 0 {
		return nil
	}
	if err := r.part(p[:r.left]); err != nil {
		return err
	}
	pad := r.tail[:Padding(r.total)]
	r.total = 0
	if _, err := io.ReadFull(r.src, pad); err != nil {
		return noEOF(err)
	}
	if !r.Digests.Data {
		return nil
	}
	if err := r.checkDigest(crc32.Update(r.crc, castagnoli, pad)); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	return nil
}

// Skip reads and forgets the data segment.
func (r *Reader) Skip() error {
	var scratch [4096]byte
	for r.left > len(scratch) {
		if err := r.part(scratch[:]); err != nil {
			return err
		}
	}
	return r.Data(scratch[:])
}

// part reads exactly p of the data segment.
func (r *Reader) part(p []byte) error {
	if _, err := io.ReadFull(r.src, p); err != nil {
		return noEOF(err)
	}
	r.left -= len(p)
	if r.Digests.Data {
		r.crc = crc32.Update(r.crc, castagnoli, p)
	}
	return nil
}

// checkDigest reads a digest and compares it; digests are little-endian
// (RFC 7143 §11.2.3, examples in appendix A.4).
func (r *Reader) checkDigest(want uint32) error {
	if _, err := io.ReadFull(r.src, r.tail[:4]); err != nil {
		return noEOF(err)
	}
	if binary.LittleEndian.Uint32(r.tail[:]) != want {
		return ErrDigest
	}
	return nil
}

// noEOF turns the end of the stream within a PDU into an error of its own.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Frame is a PDU to be sent. Its zero value is empty; it must not move between
// Buffers and the end of the write.
type Frame struct {
	Header Header
	Data   []byte

	headerDigest [4]byte
	tail         [8]byte // padding and data digest
}

// Buffers appends the pieces of the PDU to list, in order, without copying the
// data. It sets DataSegmentLength.
func (f *Frame) Buffers(list [][]byte, d Digests) [][]byte {
	f.Header.SetDataLen(len(f.Data))
	list = append(list, f.Header[:])
	if d.Header {
		binary.LittleEndian.PutUint32(f.headerDigest[:], crc32.Checksum(f.Header[:], castagnoli))
		list = append(list, f.headerDigest[:])
	}
	if len(f.Data) == 0 {
		return list
	}
	list = append(list, f.Data)
	f.tail = [8]byte{}
	n := Padding(len(f.Data))
	if d.Data {
		crc := crc32.Update(crc32.Checksum(f.Data, castagnoli), castagnoli, f.tail[:n])
		binary.LittleEndian.PutUint32(f.tail[n:], crc)
		n += 4
	}
	if n > 0 {
		list = append(list, f.tail[:n])
	}
	return list
}
