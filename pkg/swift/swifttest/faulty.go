package swifttest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Faults are the probabilities, from 0 to 1, of what a store may do to a call.
// All of them happen with real clusters, but for Flipped in a body that is read
// whole: there Swift notices, later.
type Faults struct {
	Unavailable float64 // any call fails before it did anything
	LostAnswer  float64 // Put, Delete, DeleteMany, CreateContainer: done, yet ErrUnavailable
	Absent      float64 // Get, Head without Newest: ErrNotFound for an object that is there
	Vague       float64 // Get, Head: ErrUnavailable for an object that is absent, as too few replicas answer
	Stale       float64 // Get, Head without Newest: as before the last change of that name
	LateRow     float64 // List: a row of an object that is there is missing
	GhostRow    float64 // List: a row of an object that was deleted is there
	BothWin     float64 // Put with IfNoneMatch: overwrites
	FalseExists float64 // Put with IfNoneMatch: ErrExists for a name that is free
	Flipped     float64 // Get: one bit of the body is wrong
	Truncated   float64 // Get: the object seems to end early
}

// badBodies is how often in a row the body of an object may be flipped or
// truncated, unless that is certain: worse luck is taken for damage.
const badBodies = 2

// FaultyStore decorates a store with faults.
//
// Whether a call meets a fault depends on the seed, the call and how many such
// calls there were for that name, and on nothing else: a run can be repeated,
// however its goroutines are scheduled.
type FaultyStore struct {
	inner swift.Store
	seed  uint64

	mu       sync.Mutex
	faults   Faults
	calls    map[string]uint64       // by kind of fault and name: decisions so far
	former   map[string]swift.Object // by path: before the last change; Name is empty where there was none
	bad      map[string]int          // by path: bodies in a row that were flipped or truncated
	injected map[string]int
}

var _ swift.Store = (*FaultyStore)(nil)

// Faulty returns s with faults.
func Faulty(s swift.Store, seed uint64, f Faults) *FaultyStore {
	return &FaultyStore{
		inner: s, seed: seed, faults: f,
		calls: map[string]uint64{}, former: map[string]swift.Object{}, bad: map[string]int{}, injected: map[string]int{},
	}
}

// SetFaults replaces the probabilities from the next call on.
func (s *FaultyStore) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Injected says how often each kind of fault has happened.
func (s *FaultyStore) Injected() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.injected)
}

// strikes decides about one kind of fault of one call. The random source that it
// returns belongs to the fault.
func (s *FaultyStore) strikes(kind, path string, p func(Faults) float64) (*rand.Rand, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := kind + " " + path
	n := s.calls[key]
	s.calls[key]++
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", key, n)
	source := rand.New(rand.NewPCG(s.seed, h.Sum64()))
	if source.Float64() >= p(s.faults) {
		return nil, false
	}
	s.injected[kind]++
	return source, true
}

func (s *FaultyStore) unavailable(op, container, name string) error {
	if _, yes := s.strikes("unavailable", op+" "+path(container, name), func(f Faults) float64 { return f.Unavailable }); yes {
		return injected(op, container, name, swift.ErrUnavailable, 503)
	}
	return nil
}

// answer turns a success into a lost answer.
func (s *FaultyStore) answer(op, container, name string, err error) error {
	if err != nil {
		return err
	}
	if _, yes := s.strikes("lost answer", op+" "+path(container, name), func(f Faults) float64 { return f.LostAnswer }); yes {
		return injected(op, container, name, swift.ErrUnavailable, 0)
	}
	return nil
}

var errInjected = errors.New("injected by the test")

func injected(op, container, name string, kind error, status int) error {
	return &swift.Error{Op: op, Container: container, Object: name, Kind: kind, Status: status, Cause: errInjected}
}

// path cannot be ambiguous: a container's name has no slash.
func path(container, name string) string { return container + "/" + name }

// remember keeps what is there before a change.
func (s *FaultyStore) remember(ctx context.Context, container, name string) error {
	obj, err := s.inner.Get(ctx, container, name, swift.GetOptions{Newest: true})
	if err != nil && !errors.Is(err, swift.ErrNotFound) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.former[path(container, name)] = obj
	return nil
}

// outdated decides whether a read without Newest sees an earlier state, and which.
func (s *FaultyStore) outdated(op, container, name string) (obj swift.Object, yes bool, err error) {
	p := path(container, name)
	if _, yes := s.strikes("absent", op+" "+p, func(f Faults) float64 { return f.Absent }); yes {
		return obj, true, injected(op, container, name, swift.ErrNotFound, 404)
	}
	s.mu.Lock()
	obj, changed := s.former[p]
	s.mu.Unlock()
	if !changed {
		return obj, false, nil
	}
	if _, yes := s.strikes("stale", op+" "+p, func(f Faults) float64 { return f.Stale }); !yes {
		return obj, false, nil
	}
	if obj.Name == "" {
		return obj, true, injected(op, container, name, swift.ErrNotFound, 404)
	}
	return obj, true, nil
}

// CreateContainer implements [swift.Store].
func (s *FaultyStore) CreateContainer(ctx context.Context, container string) error {
	if err := s.unavailable("create container", container, ""); err != nil {
		return err
	}
	return s.answer("create container", container, "", s.inner.CreateContainer(ctx, container))
}

// DeleteContainer implements [swift.Store].
func (s *FaultyStore) DeleteContainer(ctx context.Context, container string) error {
	if err := s.unavailable("delete container", container, ""); err != nil {
		return err
	}
	return s.inner.DeleteContainer(ctx, container)
}

// Containers implements [swift.Store].
func (s *FaultyStore) Containers(ctx context.Context, prefix, marker string, limit int) ([]string, error) {
	if err := s.unavailable("list containers", "", ""); err != nil {
		return nil, err
	}
	return s.inner.Containers(ctx, prefix, marker, limit)
}

// Put implements [swift.Store].
func (s *FaultyStore) Put(ctx context.Context, container, name string, body []byte, o swift.PutOptions) (string, error) {
	if err := s.unavailable("put", container, name); err != nil {
		return "", err
	}
	p := path(container, name)
	if o.IfNoneMatch {
		if _, yes := s.strikes("false exists", p, func(f Faults) float64 { return f.FalseExists }); yes {
			return "", injected("put", container, name, swift.ErrExists, 412)
		}
		if _, yes := s.strikes("both win", p, func(f Faults) float64 { return f.BothWin }); yes {
			o.IfNoneMatch = false
		}
	}
	if !o.IfNoneMatch {
		if err := s.remember(ctx, container, name); err != nil {
			return "", err
		}
	}
	etag, err := s.inner.Put(ctx, container, name, body, o)
	if err := s.answer("put", container, name, err); err != nil {
		return "", err
	}
	return etag, nil
}

// Get implements [swift.Store].
func (s *FaultyStore) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	if err := s.unavailable("get", container, name); err != nil {
		return swift.Object{}, err
	}
	if !o.Newest {
		if whole, yes, err := s.outdated("get", container, name); yes {
			if err == nil {
				whole, err = part(whole, o)
			}
			return whole, err
		}
	}
	obj, err := s.inner.Get(ctx, container, name, o)
	if err != nil || len(obj.Body) == 0 {
		return obj, s.vague("get", container, name, err)
	}
	s.spoil(path(container, name), &obj)
	return obj, nil
}

// spoil may flip or truncate what was read of the object at p.
func (s *FaultyStore) spoil(p string, obj *swift.Object) {
	bearable := func(chance func(Faults) float64) func(Faults) float64 {
		return func(f Faults) float64 {
			if c := chance(f); c >= 1 || s.bad[p] < badBodies {
				return c
			}
			return 0
		}
	}
	r, flipped := s.strikes("flipped", p, bearable(func(f Faults) float64 { return f.Flipped }))
	if flipped {
		obj.Body[r.IntN(len(obj.Body))] ^= 1 << r.IntN(8)
	}
	r, truncated := s.strikes("truncated", p, bearable(func(f Faults) float64 { return f.Truncated }))
	if truncated {
		obj.Body = obj.Body[:r.IntN(len(obj.Body))]
		obj.Size = obj.Off + int64(len(obj.Body))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad[p]++; !flipped && !truncated {
		delete(s.bad, p)
	}
}

// vague may turn the answer that an object is absent into none.
func (s *FaultyStore) vague(op, container, name string, err error) error {
	if !errors.Is(err, swift.ErrNotFound) {
		return err
	}
	if _, yes := s.strikes("vague", op+" "+path(container, name), func(f Faults) float64 { return f.Vague }); yes {
		return injected(op, container, name, swift.ErrUnavailable, 503)
	}
	return err
}

// part cuts the range that o asks for out of a whole object.
func part(obj swift.Object, o swift.GetOptions) (swift.Object, error) {
	first, last := o.Off, obj.Size
	if first < 0 {
		first = max(0, obj.Size+first)
	} else if o.Len > 0 {
		last = min(last, first+o.Len)
	}
	if first >= last && (o.Off > 0 || o.Len > 0) {
		return swift.Object{}, injected("get", "", obj.Name, swift.ErrRange, 416)
	}
	obj.Off, obj.Body = first, slices.Clone(obj.Body[first:last])
	return obj, nil
}

// Head implements [swift.Store].
func (s *FaultyStore) Head(ctx context.Context, container, name string, o swift.HeadOptions) (swift.Info, error) {
	if err := s.unavailable("head", container, name); err != nil {
		return swift.Info{}, err
	}
	if !o.Newest {
		if obj, yes, err := s.outdated("head", container, name); yes {
			return obj.Info, err
		}
	}
	info, err := s.inner.Head(ctx, container, name, o)
	return info, s.vague("head", container, name, err)
}

// List implements [swift.Store].
func (s *FaultyStore) List(ctx context.Context, container, prefix, marker string, limit int) ([]swift.Info, error) {
	if err := s.unavailable("list", container, prefix); err != nil {
		return nil, err
	}
	rows, err := s.inner.List(ctx, container, prefix, marker, limit)
	if err != nil {
		return nil, err
	}
	end := "\xff" // a full page says nothing about names after its last one
	if limit > 0 && len(rows) == limit {
		end = rows[len(rows)-1].Name
	}
	there := map[string]bool{}
	rows = slices.DeleteFunc(rows, func(row swift.Info) bool {
		there[row.Name] = true
		_, yes := s.strikes("late row", path(container, row.Name), func(f Faults) float64 { return f.LateRow })
		return yes
	})
	for _, ghost := range s.ghosts(container) {
		if there[ghost.Name] || !strings.HasPrefix(ghost.Name, prefix) || ghost.Name <= marker || ghost.Name > end {
			continue
		}
		if _, yes := s.strikes("ghost row", path(container, ghost.Name), func(f Faults) float64 { return f.GhostRow }); yes {
			rows = append(rows, ghost)
		}
	}
	slices.SortFunc(rows, func(a, b swift.Info) int { return strings.Compare(a.Name, b.Name) })
	if limit > 0 && len(rows) > limit {
		rows = rows[:limit]
	}
	return rows, nil
}

// ghosts are the former objects of a container.
func (s *FaultyStore) ghosts(container string) []swift.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	var infos []swift.Info
	for p, obj := range s.former {
		if obj.Name != "" && p == path(container, obj.Name) {
			infos = append(infos, obj.Info)
		}
	}
	return infos
}

// Delete implements [swift.Store].
func (s *FaultyStore) Delete(ctx context.Context, container, name string) error {
	if err := s.unavailable("delete", container, name); err != nil {
		return err
	}
	if err := s.remember(ctx, container, name); err != nil {
		return err
	}
	return s.answer("delete", container, name, s.inner.Delete(ctx, container, name))
}

// DeleteMany implements [swift.Store].
func (s *FaultyStore) DeleteMany(ctx context.Context, container string, names []string) error {
	if err := s.unavailable("delete many", container, ""); err != nil {
		return err
	}
	for _, name := range names {
		if err := s.remember(ctx, container, name); err != nil {
			return err
		}
	}
	return s.answer("delete many", container, "", s.inner.DeleteMany(ctx, container, names))
}
