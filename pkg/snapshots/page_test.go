package snapshots

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// coldTable returns a table of one page that is yet to be fetched, and its store.
func coldTable(t *testing.T) (*Table, *memory) {
	store := newMemory()
	u := goldenUpdate(t, BlankTable())
	store.publish(t, u)
	return OpenTable(store, u.Root), store
}

func TestAPageIsFetchedOnce(t *testing.T) {
	table, store := coldTable(t)
	var wg sync.WaitGroup
	for chunk := range uint64(30) {
		wg.Go(func() {
			if _, err := table.Entry(t.Context(), chunk); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	next, err := table.Update(t.Context(), Change{Origin: goldenOrigin, Gen: 8, State: State{Size: table.size}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := next.Table.Entry(t.Context(), 1); err != nil || store.gets != 1 {
		t.Errorf("%d GETs, %v", store.gets, err)
	}
}

func TestWhoGivesUpOrFailsLeavesThePageToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, store := coldTable(t)
		var gets atomic.Int32
		release := make(chan struct{})
		store.onGet = func(Location) error {
			if gets.Add(1) == 1 {
				<-release
				return &swift.Error{Op: "get", Kind: swift.ErrUnavailable}
			}
			return nil
		}
		fails, waits, leaves := make(chan error), make(chan error), make(chan error)
		entry := func(ctx context.Context, result chan error) {
			_, err := table.Entry(ctx, 1)
			result <- err
		}
		go entry(t.Context(), fails)
		synctest.Wait()
		go entry(t.Context(), waits)
		gone, cancel := context.WithCancel(t.Context())
		go entry(gone, leaves)
		synctest.Wait()
		cancel()
		if err := <-leaves; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		close(release)
		if err := <-fails; !errors.Is(err, swift.ErrUnavailable) {
			t.Errorf("whose GET failed got %v", err)
		}
		if err := <-waits; err != nil {
			t.Errorf("who waited got %v", err)
		}
	})
}

func TestMissingAndDamagedPagesAreErrors(t *testing.T) {
	table, store := coldTable(t)
	at := table.pages[0].location()
	object := store.objects[at]
	delete(store.objects, at)
	if _, err := table.Entry(t.Context(), 1); !errors.Is(err, swift.ErrNotFound) || errors.Is(err, chunks.ErrDamaged) {
		t.Errorf("a missing page: %v", err)
	}
	store.objects[at] = flip(object, len(object)/2, 4)
	if _, err := table.Entry(t.Context(), 1); !errors.Is(err, chunks.ErrDamaged) {
		t.Errorf("a damaged page: %v", err)
	}
	store.objects[at] = object
	if _, err := table.Entry(t.Context(), 1); err != nil {
		t.Errorf("a page that came back: %v", err)
	}
}

func TestAFreshNameIsAskedForAgain(t *testing.T) {
	table, store := coldTable(t)
	first := true
	store.onGet = func(at Location) error {
		if first {
			first = false
			return &swift.Error{Op: "get", Container: at.Container, Object: at.Name, Kind: swift.ErrNotFound}
		}
		return nil
	}
	if _, err := table.Entry(t.Context(), 1); err != nil {
		t.Error(err)
	}
}
