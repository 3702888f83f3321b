// Package strict reads the numbers and strings that the project's object
// formats are made of, and accepts each in one spelling only.
//
// A [Reader] never panics and never lets a length from the input size an
// allocation that the input itself does not pay for. It keeps the first failure;
// what it returns after one is zero.
package strict

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Reader reads from a byte slice.
type Reader struct {
	rest []byte
	err  error
}

// NewReader returns a reader of b. It keeps b and hands out parts of it.
func NewReader(b []byte) *Reader { return &Reader{rest: b} }

// Err returns the first failure.
func (r *Reader) Err() error { return r.err }

// Fail records a failure that the caller found, unless there was one before.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
		r.rest = nil
	}
}

// End returns the first failure; bytes that were not read are one.
func (r *Reader) End() error {
	if n := len(r.rest); n > 0 {
		r.Fail("%d trailing bytes", n)
	}
	return r.err
}

// Len returns the number of bytes left.
func (r *Reader) Len() int { return len(r.rest) }

// Bytes reads n bytes, which share the reader's memory.
func (r *Reader) Bytes(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.Fail("%d bytes wanted, %d left", n, len(r.rest))
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if b := r.Bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint32 reads four bytes, little-endian.
func (r *Reader) Uint32() uint32 {
	if b := r.Bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// Uint64 reads eight bytes, little-endian.
func (r *Reader) Uint64() uint64 {
	if b := r.Bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// Uvarint reads a number of at most max in the shortest form of
// [binary.AppendUvarint].
func (r *Reader) Uvarint(max uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	switch {
	case r.err != nil:
		return 0
	case n <= 0:
		r.Fail("number cut short or above 64 bits")
		return 0
	case n > 1 && r.rest[n-1] == 0:
		r.Fail("number %d is not in its shortest form", v)
		return 0
	case v > max:
		r.Fail("number %d is above %d", v, max)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// Count reads how many items follow: at most max, and no more than the bytes
// left suffice for when an item takes at least size bytes.
func (r *Reader) Count(max, size int) int {
	n := int(r.Uvarint(uint64(max)))
	if n*size > len(r.rest) {
		r.Fail("%d items in %d bytes", n, len(r.rest))
		return 0
	}
	return n
}

// String reads a length of at most max bytes and as many bytes.
func (r *Reader) String(max int) string {
	return string(r.Bytes(int(r.Uvarint(uint64(max)))))
}

// AppendString appends s as [Reader.String] reads it.
func AppendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Damage is an error that tells what is wrong with which object.
type Damage struct {
	Object string
	Kind   error // what the error Is
	Reason error
}

// Error names the object.
func (d *Damage) Error() string { return fmt.Sprintf("%s: %v: %v", d.Object, d.Kind, d.Reason) }

// Unwrap returns kind and reason.
func (d *Damage) Unwrap() []error { return []error{d.Kind, d.Reason} }

// ErrChecksum is a reason for damage.
var ErrChecksum = errors.New("wrong checksum")
