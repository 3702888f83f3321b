package chunks

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

func TestNames(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	for name, want := range map[string]string{
		ChunkName(0x1f, testEpoch, 7, testOpen): "c/00001f/00000003-1122334455667788.00000007.99aabbccddeeff00",
		PackName(testEpoch, 7, 2, testOpen):     "d/00000003-1122334455667788.00000007.0002.99aabbccddeeff00",
		PageName(testEpoch, 7, 511, testOpen):   "t/00000003-1122334455667788.00000007.01ff.99aabbccddeeff00",
		RootName(testEpoch, 7):                  "r/00000003-1122334455667788.00000007",
		EpochName(3):                            "e/00000003",
		FenceName(3):                            "f/00000003",
		DescriptorName(12):                      "volume.12",
		SnapshotName(id):                        "s/" + id,
		PinName(id):                             "ref/" + id,
	} {
		if name != want {
			t.Errorf("got %q, want %q", name, want)
		}
	}
}

func TestParseNameIsTheInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := ParsedName{
			Kind:  rapid.SampledFrom([]Kind{KindChunk, KindPack, KindPage, KindRoot}).Draw(t, "kind"),
			Epoch: ident.Epoch{Number: rapid.Uint64().Draw(t, "number"), Tag: rapid.Uint64().Draw(t, "tag")},
			Gen:   rapid.Uint64().Draw(t, "gen"),
		}
		if want.Kind != KindRoot {
			want.Open = ident.Open(rapid.Uint64().Draw(t, "open"))
			want.Index = rapid.Uint64().Draw(t, "index")
		}
		if got, err := ParseName(want.String()); err != nil || got != want {
			t.Fatalf("%q is %+v, %v; want %+v", want, got, err, want)
		}
	})
}

func TestParseNameRefusesOtherSpellings(t *testing.T) {
	for _, name := range []string{
		"", "c/", "r/", "x/00000003-1122334455667788.00000007",
		"r/00000003-1122334455667788.7",
		"r/00000003-1122334455667788.0000000A",
		"r/00000003-1122334455667788.00000007.99aabbccddeeff00",
		"r/+0000003-1122334455667788.00000007",
		"c/1f/00000003-1122334455667788.00000007.99aabbccddeeff00",
		"c/00001f/00000003-1122334455667788.00000007",
		"d/00000003-1122334455667788.00000007.0002.99aabbccddeeff00/",
		"t/00000003-1122334455667788.00000007.0x01.99aabbccddeeff00",
	} {
		if p, err := ParseName(name); err == nil {
			t.Errorf("%q is read as %+v", name, p)
		}
	}
}
