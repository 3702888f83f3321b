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
	// List returns at most limit records, in the order of their keys, whose
	// keys come after the given one. It sees every record that existed
	// throughout the call. Fewer than limit records mean that there are no more.
	List(ctx context.Context, after string, limit int) ([]Row[T], error)
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

// All iterates over the records whose keys are longer than prefix and begin with
// it, in the order of their keys, a page at a time. It ends after the first error.
func All[T any](ctx context.Context, t Table[T], prefix string) iter.Seq2[Row[T], error] {
	return func(yield func(Row[T], error) bool) {
		for after := prefix; ; {
			rows, err := t.List(ctx, after, pageSize)
			if err != nil {
				yield(Row[T]{}, err)
				return
			}
			for _, row := range rows {
				if !strings.HasPrefix(row.Key, prefix) || !yield(row, nil) {
					return
				}
				after = row.Key
			}
			if len(rows) < pageSize {
				return
			}
		}
	}
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
