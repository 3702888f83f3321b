package volume

import (
	"bytes"
	"context"
	"crypto/md5"
	"strings"
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// spy is a store that counts and, where a test says so, fails.
type spy struct {
	swift.Store

	mu     sync.Mutex
	puts   []put
	bodies map[string][16]byte // of everything ever put, to see that names are not used again
	reused []string
	gets   []string                    // names
	before func(op, name string) error // its error is the request's
	after  func(op, name string) error // its error hides that the request succeeded
	damage func(name string, body []byte)
	cut    func(name string, body []byte) []byte
	swap   func(name string) string // read instead
}

type put struct {
	name string
	size int64
}

func (s *spy) Put(ctx context.Context, container, name string, body []byte, o swift.PutOptions) (string, error) {
	if err := s.ask(true, "put", name); err != nil {
		return "", err
	}
	etag, err := s.Store.Put(ctx, container, name, body, o)
	if err == nil {
		s.mu.Lock()
		s.puts = append(s.puts, put{name, int64(len(body))})
		if sum, ok := s.bodies[container+name]; ok && sum != md5.Sum(body) {
			s.reused = append(s.reused, name)
		}
		if s.bodies == nil {
			s.bodies = map[string][16]byte{}
		}
		s.bodies[container+name] = md5.Sum(body)
		s.mu.Unlock()
		err = s.ask(false, "put", name)
	}
	return etag, err
}

func (s *spy) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	if err := s.ask(true, "get", name); err != nil {
		return swift.Object{}, err
	}
	from := name
	s.set(func(s *spy) {
		if s.swap != nil {
			from = s.swap(name)
		}
	})
	obj, err := s.Store.Get(ctx, container, from, o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.gets = append(s.gets, name)
		obj.Body = bytes.Clone(obj.Body)
		if s.damage != nil {
			s.damage(name, obj.Body)
		}
		if s.cut != nil {
			obj.Body = s.cut(name, obj.Body)
		}
	}
	return obj, err
}

func (s *spy) Head(ctx context.Context, container, name string, o swift.HeadOptions) (swift.Info, error) {
	if err := s.ask(true, "head", name); err != nil {
		return swift.Info{}, err
	}
	return s.Store.Head(ctx, container, name, o)
}

// ask runs the hook that there is for the time before or after a request.
func (s *spy) ask(before bool, op, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	hook := s.after
	if before {
		hook = s.before
	}
	if hook == nil {
		return nil
	}
	return hook(op, name)
}

// set changes a hook while requests run.
func (s *spy) set(change func(*spy)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// reset forgets what was counted.
func (s *spy) reset() {
	s.set(func(s *spy) { s.puts, s.gets = nil, nil })
}

// put returns the names and the bytes of what was put since the reset, fences
// and the like excepted.
func (s *spy) put() (names []string, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.puts {
		names = append(names, p.name)
		total += p.size
	}
	return names, total
}

// got returns the names that were read since the reset, looks for fences excepted.
func (s *spy) got() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.gets {
		if !strings.HasPrefix(name, chunks.FencePrefix) {
			names = append(names, name)
		}
	}
	return names
}
