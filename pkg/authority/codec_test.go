package authority

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

var update = flag.Bool("update", false, "write the golden files again; records that exist are then no longer proven readable")

const (
	goldenVersion = Version("00112233aabbccdd")
	goldenVolume  = ident.Volume("00112233445566778899aabbccddeeff")
	goldenChild   = ident.Volume("0123456789abcdef0123456789abcdef")
	goldenSnap    = ident.Snapshot("ffeeddccbbaa99887766554433221100")
)

var (
	goldenTime = time.UnixMilli(1700000000123).UTC()
	goldenRoot = Root{Container: "sb-1", Epoch: ident.Epoch{Number: 0x1f, Tag: 1<<63 + 1}, Generation: 1<<63 + 7, Hash: Hash{4, 5, 6}}
)

// goldenRecords are records of all tables with every field set, by table.
func goldenRecords() map[string]any {
	return map[string]any{
		"volumes": Volume{
			ID: goldenVolume, Name: "pvc <é>", Container: "sb-1", Account: "class", Size: 100 << 30,
			Parameters: map[string]string{"fsType": "xfs"}, Mutable: map[string]string{"rpo": "10s"},
			Created: goldenTime, State: Ready, Deleted: goldenTime, Descriptor: 3,
			Origin:  &Origin{Volume: goldenChild, Since: 2, Chosen: true, Root: &goldenRoot, Pinned: []ident.Volume{goldenChild}},
			Binding: &Binding{Node: "n1"}, Readers: []Reader{{Node: "n2", Alone: true, Root: &goldenRoot}},
			Opening: Opening{Epoch: goldenRoot.Epoch, Journal: "j", Node: "n1", Endpoint: "10.0.0.1:1", Open: true, Lost: true},
			Ended:   []Ended{{Journal: "i", Lost: true}}, Head: &goldenRoot,
			Recovered: &Recovery{Epoch: goldenRoot.Epoch, Node: "n0", At: goldenTime, Newest: goldenTime},
		},
		"snapshots": Snapshot{
			ID: goldenSnap, Name: "snap", Source: goldenVolume, Container: "sb-1", Since: 2, Created: goldenTime,
			State: Failed, Deleted: goldenTime, Size: 4096, Root: &goldenRoot,
		},
		"claims": Claim{Name: "pvc", ID: string(goldenVolume), Created: goldenTime},
		"pins":   Pin{Owner: goldenVolume, Child: goldenChild, Root: goldenRoot, Created: goldenTime},
	}
}

func decodeGolden[T any](table string, data []byte) (any, error) {
	var v T
	version, err := decodeRecord(table, "key", data, &v)
	if err == nil && version != goldenVersion {
		return version, nil
	}
	return v, err
}

var decoders = map[string]func(table string, data []byte) (any, error){
	"volumes": decodeGolden[Volume], "snapshots": decodeGolden[Snapshot], "claims": decodeGolden[Claim], "pins": decodeGolden[Pin],
}

func golden(t testing.TB, table string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", table+".golden"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestGolden reads records as they were written when the format was made, and writes
// the same.
func TestGolden(t *testing.T) {
	for table, record := range goldenRecords() {
		t.Run(table, func(t *testing.T) {
			data, err := encodeRecord(table, "key", goldenVersion, record)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(filepath.Join("testdata", table+".golden"), data, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if want := golden(t, table); !bytes.Equal(data, want) {
				t.Errorf("written as\n%s, was\n%s", data, want)
			}
			got, err := decoders[table](table, golden(t, table))
			if err != nil || !reflect.DeepEqual(got, record) {
				t.Errorf("read as %+v, %v; want %+v", got, err, record)
			}
		})
	}
}

// TestEveryFlippedBitOfARecordIsFound, for what a disk gives back.
func TestEveryFlippedBitOfARecordIsFound(t *testing.T) {
	for table, record := range goldenRecords() {
		data := golden(t, table)
		for bit := range len(data) * 8 {
			flipped := bytes.Clone(data)
			flipped[bit/8] ^= 1 << (bit % 8)
			// Blanks that end a line, and letters of a field's name or a hash in the
			// other case, say the same: what counts is what is read.
			if got, err := decoders[table](table, flipped); err == nil && !reflect.DeepEqual(got, record) {
				t.Fatalf("%s, bit %d: read as %+v", table, bit, got)
			}
		}
	}
}

// FuzzRecord: a record that is accepted is the one that was asked for, and reads the
// same once it is written again.
func FuzzRecord(f *testing.F) {
	for table := range decoders {
		f.Add(table, golden(f, table))
	}
	f.Fuzz(func(t *testing.T, table string, data []byte) {
		decode := decoders[table]
		if decode == nil {
			return
		}
		v, err := decode(table, data)
		if _, another := v.(Version); another || err != nil {
			return
		}
		again, err := encodeRecord(table, "key", goldenVersion, v)
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", v, err)
		}
		back, err := decode(table, again)
		if err != nil {
			t.Fatalf("%s was written and cannot be read: %v", again, err)
		}
		one, _ := json.Marshal(v)
		two, _ := json.Marshal(back)
		if !bytes.Equal(one, two) {
			t.Fatalf("%s became %s", one, two)
		}
	})
}

// A volume with keys is of a format of its own, which a release that would lose them
// does not read; and neither format passes for the other.
func TestFormatOfVolumesWithKeys(t *testing.T) {
	plain, encrypted := Volume{ID: "v"}, Volume{ID: "v", Keys: &keys.Wrapped{Cipher: "aes-256-gcm", By: "k"}}
	for format, v := range map[int]Volume{1: plain, 2: encrypted} {
		data, err := encodeRecord("volumes", "v", "1", v)
		if err != nil || !bytes.Contains(data, fmt.Appendf(nil, `{"format":%d,`, format)) {
			t.Fatalf("%s, %v", data, err)
		}
		var got Volume
		if _, err := decodeRecord("volumes", "v", data, &got); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("format %d: %+v, %v", format, got, err)
		}
		var e envelope
		if err := json.Unmarshal(data, &e); err != nil {
			t.Fatal(err)
		}
		for _, other := range []int{3 - format, 3} {
			e.Format = other
			e.Sum = e.sum()
			data, err := json.Marshal(&e)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decodeRecord("volumes", "v", data, &got); !errors.Is(err, ErrDamaged) {
				t.Errorf("format %d said to be %d: %v", format, other, err)
			}
		}
	}
}
