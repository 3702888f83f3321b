package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/authoritytest"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

var update = flag.Bool("update", false, "write the golden files again; objects that exist are then no longer proven readable")

const (
	goldenVolume   = ident.Volume("00112233445566778899aabbccddeeff")
	goldenSnapshot = ident.Snapshot("ffeeddccbbaa99887766554433221100")
)

var goldenEpoch = ident.Epoch{Number: 0x1f, Tag: 0x8877665544332211}

// goldenRecord is the record of a volume with everything that a descriptor tells.
func goldenRecord() authority.Volume {
	return authority.Volume{
		ID: goldenVolume, Name: "pvc <é>", Container: "sb-" + string(goldenVolume), Size: 100 << 30,
		Parameters: map[string]string{"rpo": "10s", "fsType": "xfs"}, Mutable: map[string]string{"iops": "500"},
		Created: time.UnixMilli(1700000000123).UTC(), Descriptor: 3,
		Origin: &authority.Origin{
			Snapshot: goldenSnapshot, Since: 2, Chosen: true, Pinned: []ident.Volume{"0123456789abcdef0123456789abcdef"},
			Root: &authority.Root{Container: "sb-0", Epoch: goldenEpoch, Generation: 7, Hash: authority.Hash{4, 5, 6}},
		},
	}
}

// own is a catalog on a store of its own that holds the catalog's own objects, as
// they are written.
type own struct {
	*Catalog
	flip      func(name string, body []byte)
	container string
}

func newOwn(t *testing.T) *own {
	t.Helper()
	o := &own{flip: func(string, []byte) {}, container: goldenRecord().Container}
	o.Catalog = New(Config{
		Authority: &authoritytest.Memory{}, Store: flipping{swifttest.NewStore(t), o}, Prefix: "sb-", Cluster: "cluster-a",
	})
	v := goldenRecord()
	s := authority.Snapshot{ID: goldenSnapshot, Name: "snap \u2028", Container: v.Container, Created: v.Created}
	for _, err := range []error{
		o.store.CreateContainer(t.Context(), v.Container),
		o.describe(t.Context(), v),
		o.title(t.Context(), s),
		o.putOnce(t.Context(), v.Container, chunks.EpochName(goldenEpoch.Number), markBody(goldenEpoch), ErrRolledBack),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// flipping is a store between which and its reader bits flip.
type flipping struct {
	swift.Store
	own *own
}

func (s flipping) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	object, err := s.Store.Get(ctx, container, name, o)
	if err == nil {
		s.own.flip(name, object.Body)
	}
	return object, err
}

// objects are the catalog's own, each with a function that reads it.
func (o *own) objects(ctx context.Context) map[string]func() (any, error) {
	return map[string]func() (any, error){
		"descriptor": func() (any, error) { return o.described(ctx, goldenVolume, 3) },
		"title": func() (any, error) {
			body, err := o.read(ctx, o.container, chunks.TitleName(goldenSnapshot))
			if err != nil {
				return nil, err
			}
			return decodeTitle(body, goldenSnapshot)
		},
		"epoch": func() (any, error) { return o.givenOut(ctx, o.container, goldenEpoch.Number) },
	}
}

// TestEveryFlippedBitIsFound flips each bit of each of the catalog's own objects on
// the way from Swift: it is damage, and never an answer, nor the sign of another
// cluster or of an authority that is an old copy.
func TestEveryFlippedBitIsFound(t *testing.T) {
	o := newOwn(t)
	readers := o.objects(t.Context())
	// Whoever puts a mark again, as a repeated call does, compares it with what is there.
	readers["mark put again"] = func() (any, error) {
		return nil, o.putOnce(t.Context(), o.container, chunks.EpochName(goldenEpoch.Number), markBody(goldenEpoch), ErrRolledBack)
	}
	for what, read := range readers {
		t.Run(what, func(t *testing.T) {
			size := 1
			o.flip = func(_ string, body []byte) { size = len(body) }
			if _, err := read(); err != nil {
				t.Fatalf("unflipped: %v", err)
			}
			for bit := range size * 8 {
				o.flip = func(_ string, body []byte) { body[bit/8] ^= 1 << (bit % 8) }
				got, err := read()
				if !errors.Is(err, chunks.ErrDamaged) || errors.Is(err, ErrForeign) || errors.Is(err, ErrRolledBack) {
					t.Fatalf("bit %d of %d: %+v, %v", bit, size*8, got, err)
				}
			}
			t.Logf("counted: each of the %d bits of a %s flipped, each found", size*8, what)
		})
	}
}

// TestGolden reads objects as they were written when the format was made, and
// writes the same.
func TestGolden(t *testing.T) {
	o := newOwn(t)
	var wrote []byte
	o.flip = func(_ string, body []byte) { wrote = bytes.Clone(body) }
	for what, read := range o.objects(t.Context()) {
		t.Run(what, func(t *testing.T) {
			written, err := read()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", what+".golden")
			if *update {
				if err := os.WriteFile(file, wrote, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(wrote, golden) {
				t.Errorf("written as\n%s, which was\n%s", wrote, golden)
			}
			var got any
			switch what {
			case "descriptor":
				got, err = decodeDescriptor(golden, goldenVolume)
			case "title":
				got, err = decodeTitle(golden, goldenSnapshot)
			case "epoch":
				got, err = ident.ParseEpoch(string(golden))
			}
			if err != nil || !reflect.DeepEqual(got, written) {
				t.Errorf("read as %+v, %v; want %+v", got, err, written)
			}
		})
	}
}

// TestUnknownFormat: what a later release writes is refused, and says so.
func TestUnknownFormat(t *testing.T) {
	for name, body := range map[string]string{
		"later":         `{"format":2,"volume":"` + string(goldenVolume) + `","keys":[]}`,
		"unknown field": `{"format":1,"volume":"` + string(goldenVolume) + `","keys":[]}`,
		"another":       `{"format":1,"volume":"` + string(goldenSnapshot) + `"}`,
		"size":          `{"format":1,"volume":"` + string(goldenVolume) + `","size":-4096}`,
		"trailing":      `{"format":1,"volume":"` + string(goldenVolume) + `"} {}`,
		"cut":           `{"format":1,"volume":"` + string(goldenVolume),
	} {
		if d, err := decodeDescriptor([]byte(body), goldenVolume); err == nil {
			t.Errorf("%s: read as %+v", name, d)
		}
	}
}

// FuzzDescriptor: what is accepted is of this volume and within limits, and is the
// same when it is written again.
func FuzzDescriptor(f *testing.F) {
	addGolden(f, "descriptor")
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := decodeDescriptor(body, goldenVolume)
		if err == nil {
			again(t, d, func(body []byte) (descriptor, error) { return decodeDescriptor(body, goldenVolume) })
		}
	})
}

func FuzzTitle(f *testing.F) {
	addGolden(f, "title")
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := decodeTitle(body, goldenSnapshot)
		if err == nil {
			again(t, d, func(body []byte) (title, error) { return decodeTitle(body, goldenSnapshot) })
		}
	})
}

func addGolden(f *testing.F, what string) {
	golden, err := os.ReadFile(filepath.Join("testdata", what+".golden"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(golden[:len(golden)/2])
}

// again checks that what was read is read the same once it was written: else what a
// recovery puts would differ from what it has read.
func again[T any](t *testing.T, v T, decode func([]byte) (T, error)) {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%+v was read and cannot be written: %v", v, err)
	}
	back, err := decode(body)
	if err != nil {
		t.Fatalf("%s was written and cannot be read: %v", body, err)
	}
	if twice, err := json.Marshal(back); err != nil || !bytes.Equal(twice, body) {
		t.Fatalf("written as %s, then as %s, %v", body, twice, err)
	}
}
