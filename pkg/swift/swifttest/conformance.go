package swifttest

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Listings says what a store's listings are worth.
type Listings bool

const (
	Exact Listings = true
	// Hints lack rows of what was just stored, and have some of what was deleted: so
	// does Swift while one of its nodes is away, and for a while afterwards.
	Hints Listings = false
)

// Conformance is what every [swift.Store] must pass. It uses containers with
// names of its own, and removes them.
func Conformance(t *testing.T, listings Listings, newStore func(testing.TB) swift.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, fixture)
	}{
		{"containers", testContainers},
		{"round trip", testRoundTrip},
		{"ranges", testRanges},
		{"buffer", testBuffer},
		{"overwrite", testOverwrite},
		{"if none match", testIfNoneMatch},
		{"absent", testAbsent},
		{"listing", testListing},
		{"odd names", testOddNames},
		{"refused names", testRefusedNames},
		{"delete many", testDeleteMany},
		{"concurrent", testConcurrent},
		{"context", testContext},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := newStore(t)
			c.test(t, fixture{store, scratch(t, store), listings})
		})
	}
}

// fixture is a store with an empty container.
type fixture struct {
	swift.Store
	c        string
	listings Listings
}

// wantListed compares names that were listed with those to be listed. Where listings
// are hints it only proves that they are in order and among ever, all names that a
// listing like this one could have.
func (f fixture) wantListed(t *testing.T, what string, rows []swift.Info, err error, want, ever []string) {
	t.Helper()
	var got []string
	for _, row := range rows {
		got = append(got, row.Name)
	}
	right := slices.Equal(got, want)
	if f.listings == Hints {
		right = slices.IsSorted(got) && !slices.ContainsFunc(got, func(name string) bool { return !slices.Contains(ever, name) })
	}
	if err != nil || !right {
		t.Errorf("%s: listed %q, %v, want %q", what, got, err, want)
	}
}

// scratch makes a container and removes it with all it holds at the end, as far
// as listings tell what it holds.
func scratch(t testing.TB, s swift.Store) string {
	t.Helper()
	name := "conformance-" + rand.Text()
	if err := s.CreateContainer(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(context.WithoutCancel(t.Context()), s, name); err != nil {
			t.Logf("clean up: %v", err)
		}
	})
	return name
}

func remove(ctx context.Context, s swift.Store, container string) error {
	marker := ""
	for {
		rows, err := s.List(ctx, container, "", marker, 0)
		if errors.Is(err, swift.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		if len(rows) == 0 {
			return s.DeleteContainer(ctx, container)
		}
		var names []string
		for _, row := range rows {
			names = append(names, row.Name)
			marker = row.Name
		}
		if err := s.DeleteMany(ctx, container, names); err != nil {
			return err
		}
	}
}

func (f fixture) put(t *testing.T, name string, body []byte) {
	t.Helper()
	etag, err := f.Put(t.Context(), f.c, name, body, swift.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if sum := md5.Sum(body); etag != hex.EncodeToString(sum[:]) {
		t.Fatalf("ETag %s is not the body's MD5", etag)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	var e *swift.Error
	if !errors.Is(err, want) || !errors.As(err, &e) {
		t.Errorf("%s: %v, want an *Error that is %q", what, err, want)
	}
}

// noise returns n bytes that are the same in every run.
func noise(n int) []byte {
	b := make([]byte, n)
	mathrand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func testContainers(t *testing.T, f fixture) {
	ctx := t.Context()
	if err := f.CreateContainer(ctx, f.c); err != nil {
		t.Errorf("creating it again: %v", err)
	}
	f.put(t, "o", []byte("x"))
	if f.listings == Exact { // what is in it is a listing, too
		wantErr(t, "deleting it with an object", f.DeleteContainer(ctx, f.c), swift.ErrNotEmpty)
	}

	siblings := []string{f.c}
	for _, suffix := range []string{"-b", "-a"} {
		if err := f.CreateContainer(ctx, f.c+suffix); err != nil {
			t.Fatal(err)
		}
		siblings = append(siblings, f.c+suffix)
	}
	slices.Sort(siblings)
	for _, c := range []struct {
		marker string
		limit  int
		want   []string
	}{{"", 0, siblings}, {"", 2, siblings[:2]}, {f.c, 0, siblings[1:]}, {siblings[2], 0, nil}} {
		names, err := f.Containers(ctx, f.c, c.marker, c.limit)
		rows := make([]swift.Info, len(names))
		for i, name := range names {
			rows[i].Name = name
		}
		f.wantListed(t, fmt.Sprintf("containers after %q, limit %d", c.marker, c.limit), rows, err, c.want, siblings)
	}
	for _, name := range siblings[1:] {
		if err := f.DeleteContainer(ctx, name); err != nil {
			t.Error(err)
		}
		// With a dead node Swift may answer 503 first, and the client repeats.
		if err := f.DeleteContainer(ctx, name); err != nil || f.listings == Exact {
			wantErr(t, "deleting it again", err, swift.ErrNotFound)
		}
	}
}

func testRoundTrip(t *testing.T, f fixture) {
	for _, size := range []int{0, 1, 512, 65537, 8<<20 + 100} {
		name, body := fmt.Sprintf("o/%d", size), noise(size)
		f.put(t, name, body)
		obj, err := f.Get(t.Context(), f.c, name, swift.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(obj.Body, body) || obj.Off != 0 {
			t.Errorf("%s: read %d bytes at %d that differ", name, len(obj.Body), obj.Off)
		}
		for _, newest := range []bool{false, true} {
			info, err := f.Head(t.Context(), f.c, name, swift.HeadOptions{Newest: newest})
			if err != nil || info != obj.Info {
				t.Errorf("%s: head %+v, %v, want as get %+v", name, info, err, obj.Info)
			}
		}
		sum := md5.Sum(body)
		if obj.Name != name || obj.Size != int64(size) || obj.ETag != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %+v", name, obj.Info)
		}
		if age := time.Since(obj.Modified); age < -5*time.Second || age > time.Minute {
			t.Errorf("%s: modified %v ago", name, age)
		}
	}
}

func testRanges(t *testing.T, f fixture) {
	body := noise(1000)
	f.put(t, "o", body)
	f.put(t, "empty", nil)
	for _, c := range []struct {
		off, len    int64
		first, last int // of the body; last is not in it
	}{
		{0, 0, 0, 1000},
		{0, 1, 0, 1},
		{0, 1000, 0, 1000},
		{0, 5000, 0, 1000},
		{990, 100, 990, 1000},
		{999, 1, 999, 1000},
		{300, 0, 300, 1000},
		{300, 400, 300, 700},
		{-1, 0, 999, 1000},
		{-400, 7, 600, 1000},
		{-1000, 0, 0, 1000},
		{-5000, 0, 0, 1000},
	} {
		obj, err := f.Get(t.Context(), f.c, "o", swift.GetOptions{Off: c.off, Len: c.len, Newest: c.off == 300})
		if err != nil || obj.Size != 1000 || obj.Off != int64(c.first) || !bytes.Equal(obj.Body, body[c.first:c.last]) {
			t.Errorf("range %d+%d: %d bytes at %d of %d, %v", c.off, c.len, len(obj.Body), obj.Off, obj.Size, err)
		}
	}
	for _, o := range []swift.GetOptions{{Off: 1000}, {Off: 1000, Len: 1}, {Off: 1 << 40, Len: 512}} {
		_, err := f.Get(t.Context(), f.c, "o", o)
		wantErr(t, fmt.Sprintf("range %d+%d", o.Off, o.Len), err, swift.ErrRange)
	}
	if obj, err := f.Get(t.Context(), f.c, "empty", swift.GetOptions{Off: -1}); err != nil || len(obj.Body) != 0 || obj.Size != 0 {
		t.Errorf("the end of nothing: %+v, %v", obj, err)
	}
	for _, o := range []swift.GetOptions{{Len: 1}, {Off: 1}} {
		_, err := f.Get(t.Context(), f.c, "empty", o)
		wantErr(t, fmt.Sprintf("range %d+%d of nothing", o.Off, o.Len), err, swift.ErrRange)
	}
}

func testBuffer(t *testing.T, f fixture) {
	body := noise(1000)
	f.put(t, "o", body)
	for _, c := range []struct {
		capacity int
		reused   bool
	}{{2000, true}, {1000, true}, {999, false}, {0, false}} {
		buf := make([]byte, 0, c.capacity)
		obj, err := f.Get(t.Context(), f.c, "o", swift.GetOptions{Buf: buf})
		if err != nil || !bytes.Equal(obj.Body, body) {
			t.Fatalf("buffer of %d: %v", c.capacity, err)
		}
		if reused := c.capacity > 0 && &obj.Body[0] == &buf[:1][0]; reused != c.reused {
			t.Errorf("buffer of %d: reused %v", c.capacity, reused)
		}
	}
}

func testOverwrite(t *testing.T, f fixture) {
	f.put(t, "o", []byte("first"))
	f.put(t, "o", []byte("second one"))
	obj, err := f.Get(t.Context(), f.c, "o", swift.GetOptions{Newest: true})
	if err != nil || string(obj.Body) != "second one" {
		t.Errorf("%q, %v", obj.Body, err)
	}
}

func testIfNoneMatch(t *testing.T, f fixture) {
	create := func(body string) error {
		_, err := f.Put(t.Context(), f.c, "o", []byte(body), swift.PutOptions{IfNoneMatch: true})
		return err
	}
	if err := create("first"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "the second", create(strings.Repeat("second", 1<<20)), swift.ErrExists)
	wantErr(t, "the same again", create("first"), swift.ErrExists)
	if obj, err := f.Get(t.Context(), f.c, "o", swift.GetOptions{}); err != nil || string(obj.Body) != "first" {
		t.Errorf("%q, %v", obj.Body, err)
	}
}

func testAbsent(t *testing.T, f fixture) {
	ctx := t.Context()
	for _, container := range []string{f.c, f.c + "-absent"} {
		_, err := f.Get(ctx, container, "absent", swift.GetOptions{Newest: true})
		wantErr(t, "get", err, swift.ErrNotFound)
		_, err = f.Get(ctx, container, "absent", swift.GetOptions{Off: 10, Len: 10})
		wantErr(t, "get a range", err, swift.ErrNotFound)
		_, err = f.Head(ctx, container, "absent", swift.HeadOptions{})
		wantErr(t, "head", err, swift.ErrNotFound)
		wantErr(t, "delete", f.Delete(ctx, container, "absent"), swift.ErrNotFound)
	}
	absent := f.c + "-absent"
	_, err := f.List(ctx, absent, "", "", 0)
	wantErr(t, "list", err, swift.ErrNotFound)
	_, err = f.Put(ctx, absent, "o", []byte("x"), swift.PutOptions{})
	wantErr(t, "put", err, swift.ErrNotFound)
	// With a dead node Swift answers 503 first, and the client repeats.
	if err := f.DeleteContainer(ctx, absent); err != nil {
		wantErr(t, "delete container", err, swift.ErrNotFound)
	}

	f.put(t, "o", nil)
	if err := f.Delete(ctx, f.c, "o"); err != nil {
		t.Fatal(err)
	}
	_, err = f.Get(ctx, f.c, "o", swift.GetOptions{Newest: true})
	wantErr(t, "get what was deleted", err, swift.ErrNotFound)
}

func testListing(t *testing.T, f fixture) {
	if rows, err := f.List(t.Context(), f.c, "", "", 0); err != nil || len(rows) != 0 {
		t.Errorf("empty container: %v, %v", rows, err)
	}
	names := []string{"a", "a/1", "a/10", "a/2", "a0", "b/1", "é", "日本"}
	for i, name := range names {
		f.put(t, name, noise(i))
	}
	for _, c := range []struct {
		prefix, marker string
		limit          int
		want           []string
	}{
		{"", "", 0, names},
		{"", "", 3, names[:3]},
		{"a/", "", 0, names[1:4]},
		{"a/", "a/1", 0, names[2:4]},
		{"a/", "a/10", 1, names[3:4]},
		{"a/", "", 2, names[1:3]},
		{"", "a0", 0, names[5:]},
		{"", "a/15", 0, names[3:]},
		{"a/", "Z", 0, names[1:4]},
		{"a/", "b", 0, nil},
		{"nothing", "", 0, nil},
	} {
		rows, err := f.List(t.Context(), f.c, c.prefix, c.marker, c.limit)
		ever := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, c.prefix) || n <= c.marker })
		f.wantListed(t, fmt.Sprintf("prefix %q after %q, limit %d", c.prefix, c.marker, c.limit), rows, err, c.want, ever)
		if c.limit > 0 && len(rows) > c.limit {
			t.Errorf("limit %d: %d rows", c.limit, len(rows))
		}
	}
	f.wantRow(t, "é")
	_, err := f.List(t.Context(), f.c, "", "", swift.MaxListing+1)
	wantErr(t, "limit too large", err, swift.ErrRejected)
}

// wantRow proves that the listing says of an object what a HEAD says.
func (f fixture) wantRow(t *testing.T, name string) {
	t.Helper()
	rows, err := f.List(t.Context(), f.c, name, "", 1)
	if f.listings == Hints && err == nil && len(rows) == 0 {
		return
	}
	info, err2 := f.Head(t.Context(), f.c, name, swift.HeadOptions{})
	if err != nil || err2 != nil || len(rows) != 1 {
		t.Fatalf("%v, %v, %v", rows, err, err2)
	}
	if d := info.Modified.Sub(rows[0].Modified); d < -time.Second || d > time.Second {
		t.Errorf("listed as modified %v, head says %v", rows[0].Modified, info.Modified)
	}
	if rows[0].Modified = info.Modified; rows[0] != info {
		t.Errorf("listed as %+v, head says %+v", rows[0], info)
	}
}

func testOddNames(t *testing.T, f fixture) {
	names := []string{
		"..", ".", "../../x", "/leading", "trailing/", "a//b", "//", "a b", "a+b", "100%", "%2e%2e%2f", "?q=1", "#f", "a;b&c=d",
		`"quoted"`, `back\slash`, "<html>", "line\nbreak", "tab\t", "name", "日本語", strings.Repeat("n", 200) + "/" + strings.Repeat("é", 40),
	}
	for i, name := range names {
		f.put(t, name, []byte{byte(i)})
	}
	for i, name := range names {
		obj, err := f.Get(t.Context(), f.c, name, swift.GetOptions{})
		if err != nil || !bytes.Equal(obj.Body, []byte{byte(i)}) {
			t.Errorf("get %q: %v, %v", name, obj.Body, err)
		}
	}
	rows, err := f.List(t.Context(), f.c, "", "", 0)
	f.wantListed(t, "odd names", rows, err, slices.Sorted(slices.Values(names)), names)
	if err := f.Delete(t.Context(), f.c, names[0]); err != nil {
		t.Error(err)
	}
	if err := f.DeleteMany(t.Context(), f.c, names); err != nil {
		t.Error(err)
	}
	rows, err = f.List(t.Context(), f.c, "", "", 0)
	f.wantListed(t, "after all were deleted", rows, err, nil, names)
}

func testRefusedNames(t *testing.T, f fixture) {
	ctx := t.Context()
	f.put(t, "o", nil)
	for _, name := range []string{"", strings.Repeat("x", swift.MaxObjectName+1), "\xff"} {
		_, err := f.Put(ctx, f.c, name, nil, swift.PutOptions{})
		wantErr(t, "put", err, swift.ErrRejected)
		_, err = f.Get(ctx, f.c, name, swift.GetOptions{})
		wantErr(t, "get", err, swift.ErrRejected)
		_, err = f.Head(ctx, f.c, name, swift.HeadOptions{})
		wantErr(t, "head", err, swift.ErrRejected)
		wantErr(t, "delete", f.Delete(ctx, f.c, name), swift.ErrRejected)
		wantErr(t, "delete many", f.DeleteMany(ctx, f.c, []string{name}), swift.ErrRejected)
	}
	for _, container := range []string{"", strings.Repeat("x", swift.MaxContainerName+1), f.c + "/o", "\xff"} {
		wantErr(t, "create", f.CreateContainer(ctx, container), swift.ErrRejected)
		wantErr(t, "delete container", f.DeleteContainer(ctx, container), swift.ErrRejected)
		_, err := f.List(ctx, container, "", "", 0)
		wantErr(t, "list", err, swift.ErrRejected)
	}
	if _, err := f.Head(ctx, f.c, "o", swift.HeadOptions{}); err != nil {
		t.Errorf("the object is gone: %v", err)
	}
}

func testDeleteMany(t *testing.T, f fixture) {
	var names []string
	for i := range 20 {
		name := fmt.Sprintf("o/%02d", i)
		names = append(names, name)
		if i%3 != 0 {
			f.put(t, name, nil)
		}
	}
	f.put(t, "keep", nil)
	for range 2 { // the second time all are absent
		if err := f.DeleteMany(t.Context(), f.c, names); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := f.List(t.Context(), f.c, "", "", 0)
	f.wantListed(t, "what was kept", rows, err, []string{"keep"}, append(names, "keep"))
	for _, name := range names {
		_, err := f.Head(t.Context(), f.c, name, swift.HeadOptions{Newest: true})
		wantErr(t, "head of "+name, err, swift.ErrNotFound)
	}
	if err := f.DeleteMany(t.Context(), f.c, nil); err != nil {
		t.Errorf("none: %v", err)
	}
	if err := f.DeleteMany(t.Context(), f.c+"-absent", names[:2]); err != nil {
		t.Errorf("in an absent container: %v", err)
	}
}

func testConcurrent(t *testing.T, f fixture) {
	const writers, rounds = 8, 4
	body := noise(100_000)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				name, mine := fmt.Sprintf("o/%d/%d", w, i), body[:(w+1)*(i+1)*1000]
				_, err := f.Put(t.Context(), f.c, name, mine, swift.PutOptions{IfNoneMatch: true})
				if err != nil {
					t.Error(err)
					return
				}
				obj, err := f.Get(t.Context(), f.c, name, swift.GetOptions{})
				if err != nil || !bytes.Equal(obj.Body, mine) {
					t.Errorf("%s: %d bytes, %v", name, len(obj.Body), err)
				}
			}
		})
	}
	wg.Wait()
	if rows, err := f.List(t.Context(), f.c, "o/", "", 0); err != nil || f.listings == Exact && len(rows) != writers*rounds {
		t.Errorf("%d listed, %v", len(rows), err)
	}
}

func testContext(t *testing.T, f fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Get(ctx, f.c, "o", swift.GetOptions{})
	wantErr(t, "get", err, context.Canceled)
	_, err = f.Put(ctx, f.c, "o", []byte("x"), swift.PutOptions{})
	wantErr(t, "put", err, context.Canceled)
	_, err = f.Head(t.Context(), f.c, "o", swift.HeadOptions{Newest: true})
	wantErr(t, "head after it", err, swift.ErrNotFound)
}
