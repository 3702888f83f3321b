package volume

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// backoff says how long to wait before something is tried again.
type backoff struct{ first, most time.Duration }

// wait sleeps before attempt n, counted from 0: first, doubled for each earlier
// attempt up to most, of which a random half is left out. A turn may end with it.
func (b backoff) wait(ctx context.Context, n int) error {
	if t := turnOf(ctx); t != nil {
		t.pause()
	}
	d := b.most
	if n < 20 {
		d = min(b.first<<n, b.most)
	}
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// patient is the store as all reads of immutable objects see it: a store that is
// away makes them wait until their context ends (P9), and an absent object is
// asked for again until its absence is proven.
type patient struct {
	swift.Store
	traffic *Traffic
	life    context.Context // ends with the volume
	pause   backoff
	missing time.Duration // how long an object must stay absent to be damage

	gets, bytes atomic.Int64 // that succeeded, and what they returned
	stuck       stuck
}

// stuck are the reads that a store which is away makes wait.
type stuck struct {
	mu     sync.Mutex
	reads  int
	newest error // of an attempt of one of them
}

// met notes that an attempt of a read has failed, its first one or another.
func (s *stuck) met(err error, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first {
		s.reads++
	}
	s.newest = err
}

// over notes that a read that met failures has ended.
func (s *stuck) over() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads--
}

// why returns why reads wait; nil if none do.
func (s *stuck) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reads == 0 {
		return nil
	}
	return s.newest
}

// during returns ctx as it is until the volume ends.
func (p *patient) during(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(p.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// get asks once, ahead of what nobody waits for.
func (p *patient) get(ctx context.Context, container, name string, o swift.GetOptions) (obj swift.Object, err error) {
	if turnOf(ctx) != nil {
		return p.Store.Get(ctx, container, name, o)
	}
	p.traffic.read(func() { obj, err = p.Store.Get(ctx, container, name, o) })
	return obj, err
}

// Get returns the bytes, damage, or the context's error. The absence
// of a referenced object is never an empty answer (B13).
func (p *patient) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	ctx, cancel := p.during(ctx)
	defer cancel()
	var since time.Time // when it was first found absent
	absent, waits := 0, false
	for n := 0; ; n++ {
		obj, err := p.get(ctx, container, name, o)
		switch {
		case err == nil:
			p.gets.Add(1)
			p.bytes.Add(int64(len(obj.Body)))
			return obj, nil
		case ctx.Err() != nil:
			return swift.Object{}, ctx.Err()
		case errors.Is(err, swift.ErrNotFound), errors.Is(err, swift.ErrRange):
			// One replica that is behind answers 404, so all are asked (X-Newest),
			// more than once, before it is believed.
			o.Newest = true
			if absent++; absent == 1 {
				since = time.Now()
			}
			if absent >= 3 && time.Since(since) >= p.missing {
				return swift.Object{}, damaged(container, name, err)
			}
		default:
			p.stuck.met(err, !waits)
			if !waits {
				waits = true
				defer p.stuck.over()
			}
		}
		o.Buf = nil // the attempt that failed may still write into it
		if err := p.pause.wait(ctx, n); err != nil {
			return swift.Object{}, err
		}
	}
}
