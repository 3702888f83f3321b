package snapshots

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/internal/strict"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// ErrConflict means that a name is taken by something else.
var ErrConflict = errors.New("another record has this name")

// Record is the record of a snapshot, the object s/<id>: it pins Root.
type Record struct {
	ID        ident.Snapshot
	Source    ident.Volume
	Container string    // where the root is
	Root      Ref       // zero, as is Container, if the volume was never opened
	Size      int64     // bytes of the volume
	Created   time.Time // when the cut was taken, in whole milliseconds
}

// Pin is the object ref/<child>, put in every container that the dictionary of
// the child's first root names: the child needs what Root reaches.
type Pin struct {
	Child     ident.Volume
	Container string    // where the root is
	Root      Ref       // zero, as is Container, if the volume was never opened
	Created   time.Time // in whole milliseconds
}

// encode returns the object of r. What could not be read again is refused.
func (r Record) encode(at Location) ([]byte, error) {
	root := Parent{Container: r.Container, Ref: r.Root}
	_, badID := ident.ParseSnapshot(string(r.ID))
	_, badSource := ident.ParseVolume(string(r.Source))
	err := errors.Join(badID, badSource, root.check())
	if r.Size < 0 || r.Size > MaxSize {
		err = fmt.Errorf("impossible size %d", r.Size)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot record %q: %w", r.ID, err)
	}
	b := strict.AppendString(nil, string(r.ID))
	b = strict.AppendString(b, string(r.Source))
	b = appendParent(b, root)
	b = binary.AppendUvarint(b, uint64(r.Size))
	return enclose(kindRecord, at, appendTime(b, r.Created))
}

// decodeRecord is the inverse of Record.encode.
func decodeRecord(at Location, object []byte) (r Record, err error) {
	f, err := disclose(kindRecord, at, object)
	if err != nil {
		return Record{}, damaged(at, err)
	}
	r.ID = readID(f, ident.ParseSnapshot)
	r.Source = readID(f, ident.ParseVolume)
	root := readParent(f)
	r.Container, r.Root = root.Container, root.Ref
	r.Size, r.Created = int64(f.Uvarint(MaxSize)), readTime(f)
	if chunks.SnapshotName(r.ID) != at.Name {
		f.Fail("this is the record of snapshot %q", r.ID)
	}
	if err := f.End(); err != nil {
		return Record{}, damaged(at, err)
	}
	return r, nil
}

// encode returns the object of p. What could not be read again is refused.
func (p Pin) encode(at Location) ([]byte, error) {
	root := Parent{Container: p.Container, Ref: p.Root}
	_, badChild := ident.ParseVolume(string(p.Child))
	if err := errors.Join(badChild, root.check()); err != nil {
		return nil, fmt.Errorf("pin %q: %w", p.Child, err)
	}
	b := appendParent(strict.AppendString(nil, string(p.Child)), root)
	return enclose(kindPin, at, appendTime(b, p.Created))
}

// decodePin is the inverse of Pin.encode.
func decodePin(at Location, object []byte) (p Pin, err error) {
	f, err := disclose(kindPin, at, object)
	if err != nil {
		return Pin{}, damaged(at, err)
	}
	p.Child = readID(f, ident.ParseVolume)
	root := readParent(f)
	p.Container, p.Root, p.Created = root.Container, root.Ref, readTime(f)
	if chunks.PinName(p.Child) != at.Name {
		f.Fail("this is the pin of volume %q", p.Child)
	}
	if err := f.End(); err != nil {
		return Pin{}, damaged(at, err)
	}
	return p, nil
}

// readID reads an identity with its own parser.
func readID[T any](f *strict.Reader, parse func(string) (T, error)) T {
	id, err := parse(f.String(maxName))
	if err != nil {
		f.Fail("%w", err)
	}
	return id
}

// PutRecord stores r in container. It is a success if there is a record of this
// snapshot that differs in Created at most, which then stays as it is;
// [ErrConflict] if there is any other.
func PutRecord(ctx context.Context, store swift.Store, container string, r Record) error {
	at := Location{Container: container, Name: chunks.SnapshotName(r.ID)}
	object, err := r.encode(at)
	if err != nil {
		return err
	}
	return putOnce(ctx, store, at, object, func(object []byte) (bool, error) {
		there, err := decodeRecord(at, object)
		there.Created = r.Created
		return there == r, err
	})
}

// PutPin stores p in container, as [PutRecord] does.
func PutPin(ctx context.Context, store swift.Store, container string, p Pin) error {
	at := Location{Container: container, Name: chunks.PinName(p.Child)}
	object, err := p.encode(at)
	if err != nil {
		return err
	}
	return putOnce(ctx, store, at, object, func(object []byte) (bool, error) {
		there, err := decodePin(at, object)
		there.Created = p.Created
		return there == p, err
	})
}

// putOnce stores an object unless there is one, which must say the same.
func putOnce(ctx context.Context, store swift.Store, at Location, object []byte, same func([]byte) (bool, error)) error {
	_, err := store.Put(ctx, at.Container, at.Name, object, swift.PutOptions{IfNoneMatch: true})
	if !errors.Is(err, swift.ErrExists) {
		return err
	}
	there, err := fetchNewest(ctx, store, at)
	if err != nil {
		return err
	}
	ok, err := same(there)
	if err == nil && !ok {
		err = fmt.Errorf("put %s: %w", at, ErrConflict)
	}
	return err
}

// GetRecord fetches the record of a snapshot.
func GetRecord(ctx context.Context, store swift.Store, container string, id ident.Snapshot) (Record, error) {
	at := Location{Container: container, Name: chunks.SnapshotName(id)}
	object, err := fetchNewest(ctx, store, at)
	if err != nil {
		return Record{}, err
	}
	return decodeRecord(at, object)
}

// GetPin fetches the pin of a child.
func GetPin(ctx context.Context, store swift.Store, container string, child ident.Volume) (Pin, error) {
	at := Location{Container: container, Name: chunks.PinName(child)}
	object, err := fetchNewest(ctx, store, at)
	if err != nil {
		return Pin{}, err
	}
	return decodePin(at, object)
}

// fetchNewest reads an object that may have been deleted.
func fetchNewest(ctx context.Context, store swift.Store, at Location) ([]byte, error) {
	object, err := Fetch(ctx, store, at, swift.GetOptions{Newest: true})
	return object.Body, err
}

// ListRecords lists the snapshots that container has records of. Listings may
// be stale: it is a hint.
func ListRecords(ctx context.Context, store swift.Store, container string) ([]ident.Snapshot, error) {
	return listIDs(ctx, store, container, chunks.SnapshotPrefix, ident.ParseSnapshot)
}

// ListTitles lists the snapshots that container has names of. Listings may be
// stale: it is a hint.
func ListTitles(ctx context.Context, store swift.Store, container string) ([]ident.Snapshot, error) {
	return listIDs(ctx, store, container, chunks.TitlePrefix, ident.ParseSnapshot)
}

// ListPins lists the clones that container has pins of. Listings may be stale:
// it is a hint.
func ListPins(ctx context.Context, store swift.Store, container string) ([]ident.Volume, error) {
	return listIDs(ctx, store, container, chunks.PinPrefix, ident.ParseVolume)
}

// listIDs lists the identities that follow prefix; other names are not ours.
func listIDs[T any](ctx context.Context, store swift.Store, container, prefix string, parse func(string) (T, error)) ([]T, error) {
	var ids []T
	for row, err := range swift.Rows(ctx, store, container, prefix) {
		if err != nil {
			return nil, err
		}
		if id, err := parse(row.Name[len(prefix):]); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
