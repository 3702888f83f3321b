package snapshots

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
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
