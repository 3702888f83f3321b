// Package swift is the object store as the rest of the project sees it: a small
// interface, [Store], and its client for OpenStack Swift over ncw/swift/v2.
//
// What the interface promises is what Swift really does, not what one would
// like it to do:
//
//   - There is no lock and no compare-and-swap. [PutOptions.IfNoneMatch] is a
//     guard against accidents; of several racing creators more than one may win.
//   - Overwrites, deletes and listings may be stale. Names are therefore never
//     used again, a mutable name is read with Newest, and a listing is a hint.
//   - A range of a corrupted object arrives with status 206 and wrong bytes: who
//     reads must verify. Only lengths are verified here.
//
// Every error is an [*Error] that Is one of the Err values below, or Is the
// context's error when the context ended first. Requests that fail for a passing
// reason (a network error, 408, 429, 498, 5xx) are repeated with growing, random
// delays for [Options.Patience] before they fail with [ErrUnavailable].
package swift

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"iter"
	"time"
)

// Limits of a Swift cluster in its default configuration.
const (
	MaxContainerName = 256   // bytes
	MaxObjectName    = 1024  // bytes
	MaxListing       = 10000 // names in one listing
)

// Store is an account of an object store. All methods are safe for concurrent
// use and return at once when ctx ends. A missing container is [ErrNotFound]
// everywhere.
type Store interface {
	// CreateContainer makes a container; it is no error if it exists, so nobody
	// can tell who made it.
	CreateContainer(ctx context.Context, container string) error

	// DeleteContainer removes an empty container; [ErrNotEmpty] if it is not.
	// What is said of a repeated Delete holds here too.
	DeleteContainer(ctx context.Context, container string) error

	// Containers lists at most limit names that start with prefix and come after
	// marker, in order. A limit of 0 means [MaxListing].
	Containers(ctx context.Context, prefix, marker string, limit int) ([]string, error)

	// Put stores body under name and returns its ETag, the hexadecimal MD5 of
	// body. The store has checked that what arrived has that ETag. Put keeps no
	// reference to body after it returned.
	//
	// A failed Put may have stored the object, and with IfNoneMatch a Put that was
	// repeated after a lost answer meets its own object: [ErrExists]. The caller
	// compares the ETag of what is there to tell the two apart.
	Put(ctx context.Context, container, name string, body []byte, o PutOptions) (etag string, err error)

	// Get reads an object or a range of one. A range that ends past the object is
	// cut short; one that starts at its end or later is [ErrRange].
	Get(ctx context.Context, container, name string, o GetOptions) (Object, error)

	// Head describes an object.
	Head(ctx context.Context, container, name string, o HeadOptions) (Info, error)

	// List describes at most limit objects whose names start with prefix and come
	// after marker, in order of their names' bytes. A limit of 0 means
	// [MaxListing]. A page shorter than limit is the last one.
	List(ctx context.Context, container, prefix, marker string, limit int) ([]Info, error)

	// Delete removes an object; [ErrNotFound] if there is none. But a Delete that
	// had to be repeated and then finds nothing has done what it should: nil.
	Delete(ctx context.Context, container, name string) error

	// DeleteMany removes objects; it is no error if some, or the container, are
	// absent. After an error any of them may be gone.
	DeleteMany(ctx context.Context, container string, names []string) error
}

// PutOptions says how an object is stored.
type PutOptions struct {
	// IfNoneMatch refuses to overwrite: [ErrExists]. It guards against accidents
	// only, see the package's description.
	IfNoneMatch bool
}

// GetOptions says which bytes are read. The zero value reads the whole object.
type GetOptions struct {
	Off    int64 // first byte; negative: the last -Off bytes, or all if there are fewer
	Len    int64 // bytes to read from Off; 0: to the end. Ignored when Off is negative.
	Newest bool  // ask all replicas, for names that may be overwritten or deleted
	// Buf is reused for the body if its capacity suffices. After an error it is
	// lost: a read that was given up may still write into it.
	Buf []byte
}

// HeadOptions says how an object is looked up.
type HeadOptions struct {
	Newest bool // ask all replicas, for names that may be overwritten or deleted
}

// Info describes an object.
type Info struct {
	Name     string
	Size     int64     // of the whole object, in bytes
	ETag     string    // hexadecimal MD5 of the whole object
	Modified time.Time // by the store's clock, in whole seconds or finer
}

// Object is what was read of an object.
type Object struct {
	Info
	Off  int64  // where Body starts in the object
	Body []byte // may share memory with GetOptions.Buf
}

// ErrBody is a body that is not what the store has taken.
var ErrBody = errors.New("the body does not have its ETag")

// Verify returns [ErrBody] unless Body is the whole object, byte for byte as the
// store has taken it. Nothing else notices a bit that flipped on the way, in an
// object without a checksum of its own.
func (o Object) Verify() error {
	if ETag(o.Body) != o.ETag {
		return ErrBody
	}
	return nil
}

// Rows yields what a container's listing says of the objects whose names start with
// prefix and are longer, in order of their names' bytes. An error is the last it yields.
func Rows(ctx context.Context, store Store, container, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for marker := prefix; ; {
			rows, err := store.List(ctx, container, prefix, marker, MaxListing)
			if err != nil {
				yield(Info{}, err)
				return
			}
			for _, row := range rows {
				if marker = row.Name; !yield(row, nil) {
					return
				}
			}
			if len(rows) < MaxListing {
				return
			}
		}
	}
}

// ETag is that of an object of these bytes.
func ETag(body []byte) string {
	sum := md5.Sum(body)
	return hex.EncodeToString(sum[:])
}
