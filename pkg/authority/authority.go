// Package authority answers who may write: it holds the few records of which
// there must be exactly one truth, and changes them one at a time by exclusive
// create and compare-and-swap. Swift cannot arbitrate (its conditional PUTs do
// not exclude each other, its reads can be stale), so everything that must not
// be decided twice is decided here (DESIGN section 6).
//
// There is a table for each kind of record. Keys are chosen by the callers:
//
//	volumes    <volume id>               the volume, its binding, epoch and head
//	snapshots  <snapshot id>             the snapshot and the root it names
//	claims     v-<hash> or s-<hash>      which id has a CSI name at present
//	pins       <owner id>.<child id>     a child that needs the owner's objects
//
// No operation spans two records. Callers order their steps so that a crash
// between any two of them leaves a state from which a repetition continues;
// nothing relies on a lock in memory, and several controllers may run at once.
package authority

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
)

var (
	// ErrNotFound says that there is no record under the key.
	ErrNotFound = errors.New("no such record")
	// ErrExists refuses a Create: there is a record under the key.
	ErrExists = errors.New("record exists")
	// ErrConflict refuses an Update or a Delete: the record has changed, or
	// gone, since the version that the caller read.
	ErrConflict = errors.New("record has changed")
	// ErrDamaged says that a record is unreadable: damaged, in an unknown
	// format, or under another record's name. It is never skipped or repaired.
	ErrDamaged = errors.New("record is damaged or of an unknown format")
	// ErrKey refuses a key that is not 1 to 200 characters of [0-9a-z.-] with a
	// letter or digit at both ends: what every implementation can store.
	ErrKey = errors.New("invalid record key")
	// ErrPlace refuses a place that no listing of the table gave, or that it has
	// given up since: the listing has to begin again.
	ErrPlace = errors.New("unknown token of a listing, or one that is too old")
)

// Version names one state of one record. It is opaque, it is never used again
// for another state, even of a record that was deleted and created anew.
type Version string

// Row is a record with its key and version.
type Row[T any] struct {
	Key     string
	Version Version
	Value   T
}

// Table holds the records of one kind. Every method is safe for concurrent use,
// also by other processes on the same authority, and has taken effect durably
// once it returned nil. After any other error than those named here, the caller
// does not know whether it took effect and has to read again.
type Table[T any] interface {
	// Create stores a new record: of any number of racing creators of one key
	// exactly one succeeds, the others get ErrExists.
	Create(ctx context.Context, key string, v T) (Version, error)
	// Get reads the newest state of a record, or ErrNotFound. It sees
	// everything that any caller's completed call has stored.
	Get(ctx context.Context, key string) (T, Version, error)
	// Update replaces the record if it is still at version old, else ErrConflict.
	Update(ctx context.Context, key string, v T, old Version) (Version, error)
	// Delete removes the record if it is still at version old, else ErrConflict.
	Delete(ctx context.Context, key string, old Version) error
	// List returns a page of a listing: at most limit records, in the order of
	// their keys, from a place that an earlier page gave, or from the beginning.
	// next is where the listing goes on, Beginning if there is no more. All pages
	// together hold every record that existed from the first call to the last.
	List(ctx context.Context, from Place, limit int) (rows []Row[T], next Place, err error)
}

// Authority is the set of tables.
type Authority interface {
	Volumes() Table[Volume]
	Snapshots() Table[Snapshot]
	Claims() Table[Claim]
	Pins() Table[Pin]
}

// pageSize bounds how many records All holds in memory at once.
const pageSize = 1000

// All iterates over the records in the order of their keys, a page at a time. It
// ends after the first error.
func All[T any](ctx context.Context, t Table[T]) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		for place := Beginning; ; {
			rows, next, err := t.List(ctx, place, pageSize)
			if err != nil {
				yield(Row[T]{}, err)
				return
			}
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
			if place = next; place == Beginning {
				return
			}
		}
	}
}

// Place is where a listing goes on. Only the table that gave it understands it,
// and only for some time.
type Place string

// Beginning is where a listing begins.
const Beginning Place = ""

// afterKey begins the places of tables that find a place by its key.
const afterKey = "after/"

// After is the place after a key, in a table that keeps no others.
func After(key string) Place { return Place(afterKey + key) }

// Key is the key that the place comes after, "" for the beginning.
func (p Place) Key() (string, error) {
	key, ok := strings.CutPrefix(string(p), afterKey)
	if p != Beginning && (!ok || CheckKey(key) != nil) {
		return "", fmt.Errorf("%w: %.80q", ErrPlace, string(p))
	}
	return key, nil
}

// CheckKey returns ErrKey for a key that a table must refuse.
func CheckKey(key string) error {
	ok := len(key) >= 1 && len(key) <= 200 && alphanumeric(key[0]) && alphanumeric(key[len(key)-1])
	for i := 0; ok && i < len(key); i++ {
		ok = alphanumeric(key[i]) || key[i] == '.' || key[i] == '-'
	}
	if !ok {
		return fmt.Errorf("%w: %.80q", ErrKey, key)
	}
	return nil
}

func alphanumeric(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' }
