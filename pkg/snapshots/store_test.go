package snapshots

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// memory is as much of a store as these tests need.
type memory struct {
	swift.Store
	mu      sync.Mutex
	objects map[Location][]byte
	gets    int
	onGet   func(Location) error // called without the lock; may be nil
}

func newMemory() *memory { return &memory{objects: make(map[Location][]byte)} }

func (m *memory) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	at := Location{Container: container, Name: name}
	if m.onGet != nil {
		if err := m.onGet(at); err != nil {
			return swift.Object{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets++
	body, ok := m.objects[at]
	if !ok {
		return swift.Object{}, &swift.Error{Op: "get", Container: container, Object: name, Kind: swift.ErrNotFound}
	}
	size := int64(len(body))
	if o.Off < 0 {
		body = body[max(0, size+o.Off):]
	}
	return swift.Object{Info: swift.Info{Name: name, Size: size}, Body: slices.Clone(body)}, ctx.Err()
}

func (m *memory) Put(_ context.Context, container, name string, body []byte, o swift.PutOptions) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := Location{Container: container, Name: name}
	if _, there := m.objects[at]; there && o.IfNoneMatch {
		return "", &swift.Error{Op: "put", Container: container, Object: name, Kind: swift.ErrExists}
	}
	m.objects[at] = slices.Clone(body)
	return "", nil
}

func (m *memory) List(_ context.Context, container, prefix, marker string, limit int) ([]swift.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []swift.Info
	for at := range m.objects {
		if at.Container == container && strings.HasPrefix(at.Name, prefix) && at.Name > marker {
			rows = append(rows, swift.Info{Name: at.Name})
		}
	}
	slices.SortFunc(rows, func(a, b swift.Info) int { return strings.Compare(a.Name, b.Name) })
	return rows[:min(limit, len(rows))], nil
}

// publish stores an update as a volume does.
func (m *memory) publish(t interface{ Fatalf(string, ...any) }, u *Update) {
	for _, o := range append(slices.Clone(u.Pages), u.RootObject) {
		if _, err := m.Put(context.Background(), o.Container, o.Name, o.Body, swift.PutOptions{IfNoneMatch: true}); err != nil {
			t.Fatalf("publish: %v", err)
		}
	}
}

// TestOnAStore goes through everything that package swift promises and this one
// relies on: ranges from the end, absence, and names that are taken.
func TestOnAStore(t *testing.T) {
	for name, open := range map[string]func(testing.TB) swift.Store{"embedded": swifttest.NewStore, "real": swifttest.NewRealStore} {
		t.Run(name, func(t *testing.T) {
			ctx, store := t.Context(), open(t)
			o := goldenOrigin
			o.Container = "sb-test-" + string(ident.NewVolume())
			m, u := storedVolume(t, o)
			if err := store.CreateContainer(ctx, o.Container); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				ctx := context.WithoutCancel(ctx)
				rows, err := store.List(ctx, o.Container, "", "", 0)
				for _, row := range rows {
					err = errors.Join(err, store.Delete(ctx, o.Container, row.Name))
				}
				if err := errors.Join(err, store.DeleteContainer(ctx, o.Container)); err != nil {
					t.Error(err)
				}
			})
			for at, body := range m.objects {
				if _, err := store.Put(ctx, at.Container, at.Name, body, swift.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			root, err := LoadRoot(ctx, store, o.Container, u.Root.Ref)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Check(ctx, store, root, nil, Data, func(f Fault) { t.Errorf("%s: %v", f.At, f.Err) })
			if err != nil || got.Chunks != 3 || got.Packs != 1 || got.Pages != 1 {
				t.Errorf("%+v, %v", got, err)
			}
			gone := ChunkRef{o, 1}.Location(0)
			if err := store.Delete(ctx, gone.Container, gone.Name); err != nil {
				t.Fatal(err)
			}
			if got, err := Check(ctx, store, root, nil, Footers, func(Fault) {}); err != nil || got.Faults != 1 {
				t.Errorf("without a chunk: %+v, %v", got, err)
			}

			record := goldenRecord()
			for range 2 {
				if err := PutRecord(ctx, store, o.Container, record); err != nil {
					t.Error(err)
				}
			}
			record.Root.Gen++
			if err := PutRecord(ctx, store, o.Container, record); !errors.Is(err, ErrConflict) {
				t.Errorf("another record of the same snapshot: %v", err)
			}
			if ids, err := ListRecords(ctx, store, o.Container); err != nil || !slices.Equal(ids, []ident.Snapshot{record.ID}) {
				t.Errorf("snapshots %v, %v", ids, err)
			}
		})
	}
}
