package snapshots

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

func testRef() Ref {
	return Ref{Epoch: ident.NewEpoch(3), Gen: 9, Hash: Hash{1, 2, 3}}
}

func TestRecordsRoundTrip(t *testing.T) {
	ctx, store := t.Context(), newMemory()
	now := time.UnixMilli(1700000000123).UTC()
	record := Record{ID: ident.NewSnapshot(), Source: ident.NewVolume(), Container: "sb-1", Root: testRef(), Size: 5 * gib, Created: now}
	blank := Record{ID: ident.NewSnapshot(), Source: ident.NewVolume(), Size: gib}
	for _, r := range []Record{record, blank, record} {
		if err := PutRecord(ctx, store, "sb-1", r); err != nil {
			t.Fatal(err)
		}
		if got, err := GetRecord(ctx, store, "sb-1", r.ID); err != nil || got != r {
			t.Errorf("got %+v, %v; want %+v", got, err, r)
		}
	}
	pin := Pin{Child: ident.NewVolume(), Container: "sb-1", Root: testRef(), Created: now}
	for _, container := range []string{"sb-1", "sb-0", "sb-1"} {
		if err := PutPin(ctx, store, container, pin); err != nil {
			t.Fatal(err)
		}
		if got, err := GetPin(ctx, store, container, pin.Child); err != nil || got != pin {
			t.Errorf("got %+v, %v; want %+v", got, err, pin)
		}
	}

	snapshots, err := ListRecords(ctx, store, "sb-1")
	want := []ident.Snapshot{record.ID, blank.ID}
	slices.Sort(want)
	if err != nil || !slices.Equal(snapshots, want) {
		t.Errorf("snapshots %v, %v; want %v", snapshots, err, want)
	}
	children, err := ListPins(ctx, store, "sb-1")
	if err != nil || !slices.Equal(children, []ident.Volume{pin.Child}) {
		t.Errorf("children %v, %v", children, err)
	}
}

func TestARecordIsNotReplaced(t *testing.T) {
	ctx, store := t.Context(), newMemory()
	record := Record{ID: ident.NewSnapshot(), Source: ident.NewVolume(), Container: "sb-1", Root: testRef(), Size: gib}
	pin := Pin{Child: ident.NewVolume(), Container: "sb-1", Root: testRef()}
	if err := errors.Join(PutRecord(ctx, store, "sb-1", record), PutPin(ctx, store, "sb-1", pin)); err != nil {
		t.Fatal(err)
	}
	later, laterPin := record, pin
	later.Created, laterPin.Created = time.UnixMilli(5).UTC(), time.UnixMilli(5).UTC()
	if err := errors.Join(PutRecord(ctx, store, "sb-1", later), PutPin(ctx, store, "sb-1", laterPin)); err != nil {
		t.Errorf("the same snapshot and pin again: %v", err)
	}
	if got, err := GetRecord(ctx, store, "sb-1", record.ID); err != nil || got != record {
		t.Errorf("the first record became %+v, %v", got, err)
	}
	later.Root.Gen++
	laterPin.Root.Gen++
	if err := PutRecord(ctx, store, "sb-1", later); !errors.Is(err, ErrConflict) {
		t.Errorf("another record: %v", err)
	}
	if err := PutPin(ctx, store, "sb-1", laterPin); !errors.Is(err, ErrConflict) {
		t.Errorf("another pin: %v", err)
	}
}

func TestRecordsThatCouldNotBeReadAreRefused(t *testing.T) {
	store := newMemory()
	for what, spoil := range map[string]func(*Record){
		"id":            func(r *Record) { r.ID = "monday" },
		"source":        func(r *Record) { r.Source = "" },
		"size":          func(r *Record) { r.Size = MaxSize + 1 },
		"negative size": func(r *Record) { r.Size = -1 },
		"container":     func(r *Record) { r.Container = "" },
		"root":          func(r *Record) { r.Root = Ref{} },
		"epoch":         func(r *Record) { r.Root.Epoch = ident.Epoch{} },
	} {
		r := goldenRecord()
		spoil(&r)
		if err := PutRecord(t.Context(), store, "sb-1", r); err == nil {
			t.Errorf("%s: stored", what)
		}
	}
	for what, spoil := range map[string]func(*Pin){
		"child":     func(p *Pin) { p.Child = "" },
		"container": func(p *Pin) { p.Container = "" },
	} {
		p := goldenPin()
		spoil(&p)
		if err := PutPin(t.Context(), store, "sb-1", p); err == nil {
			t.Errorf("%s: stored", what)
		}
	}
}

func TestListGoesOnAfterAPage(t *testing.T) {
	ctx, store := t.Context(), newMemory()
	const n = swift.MaxListing + 5
	for i := range n {
		store.objects[Location{Container: "sb-1", Name: fmt.Sprintf("s/%032x", i)}] = nil
	}
	store.objects[Location{Container: "sb-1", Name: "s/no snapshot"}] = nil
	ids, err := ListRecords(ctx, store, "sb-1")
	if err != nil || len(ids) != n {
		t.Errorf("%d snapshots, %v; want %d", len(ids), err, n)
	}
}

func TestReadIndexOfALongFooter(t *testing.T) {
	ctx, store := t.Context(), newMemory()
	o := Origin{"sb-1", ident.NewEpoch(1), ident.NewOpen()}
	at := PackRef{o, 1, 0}.Location()
	var extents []chunks.Extent
	for i := range uint64(30000) {
		extents = append(extents, chunks.Extent{Chunk: i * 7, Len: chunks.Sector, Zero: true})
	}
	object, err := chunks.EncodePack(at, extents, chunks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadIndex(ctx, store, at, nil); !errors.Is(err, swift.ErrNotFound) {
		t.Errorf("index of a missing pack: %v", err)
	}
	store.objects[at], store.gets = object, 0
	x, err := ReadIndex(ctx, store, at, nil)
	if err != nil || len(x.Chunks()) != len(extents) || store.gets != 2 {
		t.Errorf("%v after %d GETs for %d bytes", err, store.gets, len(object))
	}
}
