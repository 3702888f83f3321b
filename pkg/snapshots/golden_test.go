package snapshots

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

var update = flag.Bool("update", false, "write the golden files again; objects that exist are then no longer proven readable")

var (
	goldenEpoch  = ident.Epoch{Number: 3, Tag: 0x1122334455667788}
	goldenOrigin = Origin{Container: "sb-1", Epoch: goldenEpoch, Open: 0x99aabbccddeeff00}
	goldenTime   = time.UnixMilli(1700000000123).UTC()
)

// goldenUpdate makes a generation with one page and recent entries.
func goldenUpdate(t testing.TB, table *Table) *Update {
	t.Helper()
	parent := goldenOrigin
	parent.Container, parent.Open = "sb-0", 0x0123456789abcdef
	changes := make(map[uint64]Entry)
	for chunk := range uint64(2500) {
		e := Entry{Base: ChunkRef{goldenOrigin, 1 + chunk%5}}
		if chunk%3 == 0 {
			e.Base = ChunkRef{parent, 7}
		}
		if chunk%7 == 0 {
			e.Patches = []PackRef{{parent, 6, chunk % 4}, {goldenOrigin, 7, 0}}
		}
		if chunk%11 == 0 {
			e.Base = ChunkRef{}
		}
		if chunk%13 != 0 {
			changes[chunk] = e
		}
	}
	for chunk := uint64(PageChunks); chunk < PageChunks+300; chunk++ {
		changes[chunk] = Entry{Patches: []PackRef{{goldenOrigin, 7, chunk % 9}}}
	}
	u, err := table.Update(t.Context(), Change{
		Origin:   goldenOrigin,
		Gen:      7,
		Parent:   Parent{Container: "sb-0", Ref: Ref{Epoch: goldenEpoch, Gen: 6, Hash: Hash{1, 2, 3}}},
		State:    State{Size: 100*gib + 512, Mark: Formatted, Clean: true, Sealed: goldenTime},
		Snapshot: "00112233445566778899aabbccddeeff",
		Entries:  changes,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(u.Pages) != 1 {
		t.Fatalf("%d pages", len(u.Pages))
	}
	return u
}

func goldenRecord() Record {
	return Record{
		ID:        "00112233445566778899aabbccddeeff",
		Source:    "ffeeddccbbaa99887766554433221100",
		Container: "sb-1",
		Root:      Ref{Epoch: goldenEpoch, Gen: 7, Hash: Hash{4, 5, 6}},
		Size:      100*gib + 512,
		Created:   goldenTime,
	}
}

func goldenPin() Pin {
	r := goldenRecord()
	return Pin{Child: "0123456789abcdef0123456789abcdef", Container: r.Container, Root: r.Root, Created: r.Created}
}

// golden returns a golden file, which becomes object first if -update is given.
func golden(t *testing.T, name string, object []byte) []byte {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, object, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	object, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// TestGolden reads objects that were written when the format was made. They
// need not be what is written today: another release of the compressor may say
// the same in other bytes.
func TestGolden(t *testing.T) {
	u := goldenUpdate(t, BlankTable())
	s := samples(t)
	store := newMemory()
	root := golden(t, "root", u.RootObject.Body)
	store.objects[u.RootObject.Location] = root
	store.objects[u.Pages[0].Location] = golden(t, "page", u.Pages[0].Body)

	got, err := DecodeRoot(u.RootObject.Location, root)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != u.Root.State || got.Parent != u.Root.Parent || got.Snapshot != u.Root.Snapshot || !reflect.DeepEqual(got.Containers, u.Root.Containers) {
		t.Errorf("the root says %+v, not %+v", got, u.Root)
	}
	table := OpenTable(store, got)
	for chunk := range chunkCount(u.Root.State.Size) {
		want, err := u.Table.Entry(t.Context(), chunk)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := table.Entry(t.Context(), chunk); err != nil || !reflect.DeepEqual(e, want) {
			t.Fatalf("chunk %d: %+v, %v; want %+v", chunk, e, err, want)
		}
	}

	record, err := decodeRecord(s["record"].at, golden(t, "record", s["record"].object))
	if err != nil || record != goldenRecord() {
		t.Errorf("the record says %+v, %v", record, err)
	}
	pin, err := decodePin(s["pin"].at, golden(t, "pin", s["pin"].object))
	if err != nil || pin != goldenPin() {
		t.Errorf("the pin says %+v, %v", pin, err)
	}
}
