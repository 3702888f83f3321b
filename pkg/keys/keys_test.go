package keys_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

const (
	volume  = "000102030405060708090a0b0c0d0e0f"
	another = "100102030405060708090a0b0c0d0e0f"

	first  = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlBQkNERUY="
	second = "QUJDREVGMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk="
)

func class(t *testing.T, value string) keys.Class {
	t.Helper()
	c, err := keys.ParseClass(value)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWrongKeysAreToldFromDamage(t *testing.T) {
	source := keys.New(keys.Set{})
	set := keys.New(source)
	if len(set.Secrets) != 2 || set.Own == source.Own || set.Secrets[source.Own] != source.Secret() || set.Secret() == source.Secret() {
		t.Fatalf("a child has the keys %v of a source with %v", set.Secrets, source.Secrets)
	}
	c := class(t, first)
	w := c.Wrap(volume, set)
	if got, err := c.Unwrap(volume, w); err != nil || !reflect.DeepEqual(got, set) {
		t.Errorf("unwrapped %v, %v", got, err)
	}
	if w2 := c.Wrap(volume, set); reflect.DeepEqual(w, w2) {
		t.Error("two wrappings are the same: the salt is not drawn")
	}
	forged := func(edit func(*keys.Wrapped)) *keys.Wrapped {
		f := *w
		f.Salt, f.Check, f.Sealed = append([]byte{}, w.Salt...), append([]byte{}, w.Check...), append([]byte{}, w.Sealed...)
		edit(&f)
		return &f
	}
	for name, x := range map[string]struct {
		key    keys.Class
		volume string
		w      *keys.Wrapped
		want   error
	}{
		"another key":            {class(t, second), volume, w, keys.ErrWrongKey},
		"another salt":           {c, volume, forged(func(w *keys.Wrapped) { w.Salt[0] ^= 1 }), keys.ErrWrongKey},
		"another volume's":       {c, another, w, keys.ErrDamaged},
		"a flipped bit":          {c, volume, forged(func(w *keys.Wrapped) { w.Sealed[9] ^= 1 }), keys.ErrDamaged},
		"cut short":              {c, volume, forged(func(w *keys.Wrapped) { w.Sealed = w.Sealed[:9] }), keys.ErrDamaged},
		"nothing":                {c, volume, &keys.Wrapped{}, keys.ErrDamaged},
		"a cipher of the future": {c, volume, forged(func(w *keys.Wrapped) { w.Cipher = "rot13" }), keys.ErrDamaged},
	} {
		if got, err := x.key.Unwrap(x.volume, x.w); !errors.Is(err, x.want) || !got.IsZero() {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
}

// The format: what is wrapped now must open for ever.
func TestGolden(t *testing.T) {
	const golden = `{"cipher":"aes-256-gcm","by":"2672ee91ad03b93a199d1d053c257a0f","salt":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","check":"mauqFCrohkxYbPmCWCMouw==","sealed":"dzser3a577ngY3N3zGiDSFoh9MpN9Qp3cCTN2C1SraN1jFUqpPWIn7czHa6uH5GCf3IVrYPZAQUdYB32/kBC5ZXxXGJjCPdw5zj7yKbEnewGTYAtb7KS4VoKWwI="}`
	var w keys.Wrapped
	if err := json.Unmarshal([]byte(golden), &w); err != nil {
		t.Fatal(err)
	}
	set, err := class(t, first).Unwrap(volume, &w)
	want := keys.Set{Own: 7, Secrets: map[uint32]keys.Secret{7: {1, 2, 3}, 9: {4, 5, 6}}}
	if err != nil || !reflect.DeepEqual(set, want) || class(t, first).Name() != w.By {
		t.Errorf("%d, %v; the key's name is %s", set.Own, err, class(t, first).Name())
	}
}

func TestSplit(t *testing.T) {
	ring, rest, err := keys.Split(map[string]string{"ST_USER": "u", keys.Field: second + "\n", keys.PreviousField: first})
	if err != nil || len(ring) != 2 || !maps.Equal(rest, map[string]string{"ST_USER": "u"}) {
		t.Fatalf("%d keys, %v, %v", len(ring), rest, err)
	}
	w := class(t, first).Wrap(volume, keys.New(keys.Set{}))
	if _, err := ring.Unwrap(volume, w); err != nil {
		t.Errorf("with the previous key: %v", err)
	}
	if _, err := ring[:1].Unwrap(volume, w); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("without it: %v", err)
	}
	for name, secrets := range map[string]map[string]string{
		"a passphrase":      {keys.Field: "correct horse battery staple"},
		"a short key":       {keys.Field: "c2hvcnQ="},
		"zeros":             {keys.Field: strings.Repeat("A", 43) + "="},
		"only the previous": {keys.PreviousField: first},
	} {
		_, _, err := keys.Split(secrets)
		if err == nil || strings.Contains(fmt.Sprint(err), "horse") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// memory is a store that also remembers nothing of what it was never given.
type memory map[string]map[string]string

func (m memory) Load(name string) (map[string]string, error) {
	if s, ok := m[name]; ok {
		return s, nil
	}
	return nil, fs.ErrNotExist
}

func (m memory) Save(name string, s map[string]string) error {
	m[name] = s
	return nil
}

func (m memory) Remove(name string) error {
	delete(m, name)
	return nil
}

func TestVault(t *testing.T) {
	v := keys.Vault{Store: memory{}}
	c := class(t, first)
	set := keys.New(keys.Set{})
	w := c.Wrap(volume, set)
	if _, err := v.Unwrap(volume, w); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("before the key is known: %v", err)
	}
	if err := v.Add(keys.Ring{c}); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Unwrap(volume, w); err != nil || !reflect.DeepEqual(got, set) {
		t.Errorf("%v, %v", got, err)
	}
	other := class(t, second)
	kept, err := v.Store.Load(c.Name())
	if err != nil || v.Store.Save(other.Name(), kept) != nil {
		t.Fatal(err)
	}
	if _, err := v.Class(other.Name()); !errors.Is(err, keys.ErrWrongKey) {
		t.Errorf("a key under the name of another: %v", err)
	}
	if err := v.Remove(c.Name()); err != nil {
		t.Error(err)
	}
	if _, err := v.Unwrap(volume, w); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("after the key was forgotten: %v", err)
	}
	if none, err := v.Unwrap(volume, nil); err != nil || !none.IsZero() {
		t.Errorf("of a volume without keys: %v, %v", none, err)
	}
}

func TestSetsTravel(t *testing.T) {
	set := keys.New(keys.New(keys.Set{}))
	if got, err := keys.ParseFields(set.Fields()); err != nil || !reflect.DeepEqual(got, set) {
		t.Errorf("as text: %v, %v", got, err)
	}
	if got, err := keys.FromBytes(set.Own, set.Bytes()); err != nil || !reflect.DeepEqual(got, set) {
		t.Errorf("as bytes: %v, %v", got, err)
	}
	if got, err := keys.FromBytes(0, nil); err != nil || !got.IsZero() {
		t.Errorf("none: %v, %v", got, err)
	}
	for name, fields := range map[string]map[string]string{
		"none":        {},
		"no own":      {"7": strings.Repeat("ab", 32)},
		"own missing": {"own": "8", "7": strings.Repeat("ab", 32)},
		"short":       {"own": "7", "7": "ab"},
		"id 0":        {"own": "0", "0": strings.Repeat("ab", 32)},
	} {
		if got, err := keys.ParseFields(fields); err == nil {
			t.Errorf("%s: %v", name, got.Own)
		}
	}
	if _, err := keys.FromBytes(3, nil); err == nil {
		t.Error("an own key without its secret")
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	set := keys.New(keys.Set{})
	c := class(t, first)
	for _, v := range []any{set, set.Secret(), c, keys.Ring{c}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
			text := fmt.Sprintf(verb, v)
			if !strings.Contains(text, "[secret]") || strings.Contains(text, "0123456789") || strings.Contains(text, "48, 49") || strings.Contains(text, "30313233") {
				t.Errorf("%s of %T prints %.100s", verb, v, text)
			}
		}
	}
}
