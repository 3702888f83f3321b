package snapshots

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// storedVolume stores a volume of full chunks, a pack that patches two of them,
// and a page of its table.
func storedVolume(t *testing.T, o Origin) (*memory, *Update) {
	t.Helper()
	store := newMemory()
	noise := make([]byte, chunks.Size)
	r := rand.New(rand.NewPCG(2, 3))
	for i := range chunks.FrameSize {
		noise[i] = byte(r.Uint32())
	}
	changes := make(map[uint64]Entry)
	for chunk := range uint64(3) {
		e := Entry{Base: ChunkRef{o, 1}}
		at := e.Base.Location(chunk)
		object, err := chunks.EncodeChunk(at, noise, chunks.Options{})
		if err != nil {
			t.Fatal(err)
		}
		store.objects[at] = object
		changes[chunk] = e
	}
	pack := PackRef{o, 1, 0}
	object, err := chunks.EncodePack(pack.Location(), []chunks.Extent{
		{Chunk: 1, Len: 4096, Data: noise[:4096]},
		{Chunk: PageChunks, Len: 4096, Zero: true},
	}, chunks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store.objects[pack.Location()] = object
	for _, chunk := range []uint64{1, PageChunks} {
		changes[chunk] = Entry{Base: changes[chunk].Base, Patches: []PackRef{pack}}
	}
	// As many more chunks as it takes to have a page written, then zeros for them.
	for chunk := uint64(10); chunk < 10+maxRecent; chunk++ {
		changes[chunk] = Entry{Base: ChunkRef{o, 2}}
	}
	u, err := BlankTable().Update(t.Context(), Change{Origin: o, Gen: 1, State: State{Size: 100 * gib}, Entries: changes})
	if err != nil {
		t.Fatal(err)
	}
	for chunk := uint64(10); chunk < 10+maxRecent; chunk++ {
		changes[chunk] = Entry{}
	}
	if u, err = u.Table.Update(t.Context(), Change{Origin: o, Gen: 2, State: State{Size: 100 * gib}, Entries: changes}); err != nil {
		t.Fatal(err)
	}
	store.publish(t, u)
	if len(u.Root.pages) != 1 {
		t.Fatalf("%d pages", len(u.Root.pages))
	}
	return store, u
}

func TestCheckOfAWholeVolume(t *testing.T) {
	store, u := storedVolume(t, goldenOrigin)
	for _, depth := range []Depth{Tables, Footers, Data} {
		got, err := Check(t.Context(), store, u.Root, nil, depth, func(f Fault) { t.Errorf("%s: %v", f.At, f.Err) })
		want := Checked{Pages: 1, Chunks: 3, Packs: 1, Bytes: got.Bytes}
		if err != nil || got != want || (got.Bytes < 3*chunks.FrameSize) != (depth == Tables) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
}

func TestCheckFindsFaults(t *testing.T) {
	store, u := storedVolume(t, goldenOrigin)
	chunk := ChunkRef{goldenOrigin, 1}
	pack := PackRef{goldenOrigin, 1, 0}
	otherPack, err := chunks.EncodePack(pack.Location(), []chunks.Extent{{Chunk: 1, Len: 512, Zero: true}}, chunks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		at    Location
		spoil func(object []byte) []byte // nil removes it
		depth Depth                      // at which it is found
		want  error
	}{
		{"missing chunk", chunk.Location(2), nil, Footers, swift.ErrNotFound},
		{"missing pack", pack.Location(), nil, Footers, swift.ErrNotFound},
		{"missing page", u.Root.pages[0].location(), nil, Tables, swift.ErrNotFound},
		{"damaged page", u.Root.pages[0].location(), func(o []byte) []byte { return flip(o, 30, 1) }, Tables, chunks.ErrDamaged},
		{"damaged footer", chunk.Location(0), func(o []byte) []byte { return flip(o, len(o)-30, 1) }, Footers, chunks.ErrDamaged},
		{"chunk in the place of another", chunk.Location(0), func([]byte) []byte { return store.objects[chunk.Location(1)] }, Footers, chunks.ErrDamaged},
		{"pack without a chunk", pack.Location(), func([]byte) []byte { return otherPack }, Footers, chunks.ErrDamaged},
		{"damaged data", chunk.Location(0), func(o []byte) []byte { return flip(o, 30000, 1) }, Data, chunks.ErrDamaged},
	} {
		object := store.objects[c.at]
		if c.spoil == nil {
			delete(store.objects, c.at)
		} else {
			store.objects[c.at] = c.spoil(object)
		}
		for _, depth := range []Depth{Tables, Footers, Data} {
			var faults []Fault
			got, err := Check(t.Context(), store, u.Root, nil, depth, func(f Fault) { faults = append(faults, f) })
			if err != nil || got.Faults != len(faults) {
				t.Errorf("%s: %+v, %v", c.name, got, err)
			}
			if depth < c.depth {
				if len(faults) > 0 {
					t.Errorf("%s: found at depth %d: %v", c.name, depth, faults)
				}
			} else if len(faults) != 1 || faults[0].At != c.at || !errors.Is(faults[0].Err, c.want) {
				t.Errorf("%s: %v", c.name, faults)
			}
		}
		store.objects[c.at] = object
	}
}

func TestCheckEndsWithTheStore(t *testing.T) {
	store, u := storedVolume(t, goldenOrigin)
	away := &swift.Error{Op: "get", Kind: swift.ErrUnavailable}
	for _, prefix := range []byte("tcd") {
		store.onGet = func(at Location) error {
			if at.Name[0] == prefix {
				return away
			}
			return nil
		}
		_, err := Check(t.Context(), store, u.Root, nil, Footers, func(f Fault) { t.Errorf("%s: %v", f.At, f.Err) })
		if !reflect.DeepEqual(err, error(away)) {
			t.Errorf("%c: got %v", prefix, err)
		}
	}
}

// An encrypted volume and its plain clone: each container's key is in the
// dictionary, follows it into the clone, and does not change.
func TestKeysOfContainers(t *testing.T) {
	ctx, store, o := t.Context(), newMemory(), goldenOrigin
	secrets := map[uint32]keys.Secret{5: {1, 2, 3}}
	pack := PackRef{o, 1, 0}
	object, err := chunks.EncodePack(pack.Location(), []chunks.Extent{{Len: 512, Data: make([]byte, 512)}},
		chunks.Options{Key: chunks.Key{ID: 5, Secret: secrets[5]}})
	if err != nil {
		t.Fatal(err)
	}
	store.objects[pack.Location()] = object
	c := Change{Origin: o, Gen: 1, Key: 5, State: State{Size: gib}, Entries: map[uint64]Entry{0: {Patches: []PackRef{pack}}}}
	u, err := BlankTable().Update(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	c.Gen, c.Key = 2, 6
	if _, err := u.Table.Update(ctx, c); err == nil {
		t.Error("the key of a container changed")
	}

	c.Key, c.Origin.Container = 0, "sb-clone"
	ref := PackRef{c.Origin, 2, 0}
	c.Entries = map[uint64]Entry{1: {Patches: []PackRef{ref}}}
	if u, err = u.Table.Update(ctx, c); err != nil {
		t.Fatal(err)
	}
	if object, err = chunks.EncodePack(ref.Location(), []chunks.Extent{{Chunk: 1, Len: 512, Zero: true}}, chunks.Options{}); err != nil {
		t.Fatal(err)
	}
	store.objects[ref.Location()] = object
	store.publish(t, u)
	root, err := LoadRoot(ctx, store, "sb-clone", u.Root.Ref)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Container{{o.Container, 5}, {"sb-clone", 0}}; !slices.Equal(root.Containers, want) {
		t.Errorf("dictionary %v, want %v", root.Containers, want)
	}
	if _, err := root.Keys(nil); !errors.Is(err, chunks.ErrNoKey) || !strings.Contains(err.Error(), o.Container) {
		t.Errorf("without secrets: %v", err)
	}
	keys, err := root.Keys(secrets)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Check(ctx, store, root, keys, Data, func(f Fault) { t.Errorf("%s: %v", f.At, f.Err) }); err != nil || got.Packs != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	var fault Fault
	if got, err := Check(ctx, store, root, nil, Footers, func(f Fault) { fault = f }); err != nil || got.Faults != 1 || !errors.Is(fault.Err, chunks.ErrNoKey) {
		t.Errorf("without keys: %+v, %v, %v", got, fault, err)
	}
}
