package volume

import (
	"context"
	"slices"
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
)

// Traffic is what the volumes of a process do at Swift without anybody waiting
// for it: uploads and reading ahead. Volumes share it as they share a [Cache]. It
// bounds how much of that is under way on the node, and the memory that it needs,
// and gives turns by class.
//
// Reads that somebody waits for take no turn. While one of them is on its way,
// classes that can wait may only use a quarter of the turns.
type Traffic struct {
	limit int

	mu      sync.Mutex
	busy    int   // turns given and not given back
	strays  int64 // bytes that works without a turn keep
	reading int   // GETs on their way outside of any turn
	waiting []*turn
}

// class says what goes first; lower ones do.
type class int

const (
	overdue    class = iota // uploads that somebody waits for, or that are late
	readahead               // what a reader will ask for soon
	uploading               // all other uploads
	compacting              // what only saves room
)

const (
	// defaultTurns keeps the memory of uploads, of 24 MiB each, below 200 MiB.
	defaultTurns = 8
	// strayRoom is how many bytes, for each turn, may be kept by works without one.
	strayRoom = 2 * chunks.Size
)

// NewTraffic makes a Traffic of at most limit turns at a time; 0: 8.
func NewTraffic(limit int) *Traffic {
	if limit <= 0 {
		limit = defaultTurns
	}
	return &Traffic{limit: limit}
}

// turn is the right to do one piece of work.
type turn struct {
	traffic *Traffic
	class   func() class // may change while it waits
	granted chan struct{}

	// Guarded by traffic.mu.
	phase phase
	keeps int64 // bytes that the work has in memory as long as it lasts
}

// phase is how far a turn has come.
type phase int

const (
	queued phase = iota
	given
	astray // given back, and the work goes on
	over   // the work has ended; reads that others share may go on
)

// turnKey is the key of a context's *turn.
type turnKey struct{}

// turnOf returns the turn that ctx belongs to, nil if somebody waits for what is
// done in it.
func turnOf(ctx context.Context) *turn {
	t, _ := ctx.Value(turnKey{}).(*turn)
	return t
}

// inTurn runs work when its turn has come.
func (t *Traffic) inTurn(ctx context.Context, class func() class, work func(context.Context) error) error {
	w := &turn{traffic: t, class: class, granted: make(chan struct{})}
	defer w.end()
	t.mu.Lock()
	t.waiting = append(t.waiting, w)
	t.grant()
	t.mu.Unlock()
	select {
	case <-w.granted:
		return work(context.WithValue(ctx, turnKey{}, w))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end gives the turn back, or the place in the queue.
func (w *turn) end() {
	t := w.traffic
	t.mu.Lock()
	defer t.mu.Unlock()
	switch w.phase {
	case queued:
		t.waiting = slices.DeleteFunc(t.waiting, func(other *turn) bool { return other == w })
	case given:
		t.busy--
	case astray:
		t.strays -= w.keeps
	}
	w.phase = over
	t.grant()
}

// pause gives the turn back early, for a work that has failed and goes on without it after
// a while: a container that cannot be written to holds up no other volume. What the work
// has in memory stays there, so there is room for some of that; beyond it turns are kept,
// as no store that is away may take memory without end.
func (w *turn) pause() {
	t := w.traffic
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.phase != given || t.strays+w.keeps > int64(t.limit)*strayRoom {
		return
	}
	w.phase = astray
	t.strays += w.keeps
	t.busy--
	t.grant()
}

// keeps tells the turn that ctx belongs to what the work in it has in memory from now on.
func keeps(ctx context.Context, bytes int64) {
	w := turnOf(ctx)
	if w == nil {
		return
	}
	w.traffic.mu.Lock()
	defer w.traffic.mu.Unlock()
	if w.phase == astray {
		w.traffic.strays += bytes - w.keeps
	}
	w.keeps = bytes
}

// read runs a GET that somebody waits for.
func (t *Traffic) read(get func()) {
	t.count(1)
	defer t.count(-1)
	get()
}

func (t *Traffic) count(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading += n
	t.grant()
}

// grant gives the turns that are free: within a class to who came first.
func (t *Traffic) grant() {
	for len(t.waiting) > 0 && t.busy < t.limit {
		first, best := 0, compacting+1
		for i, w := range t.waiting {
			if c := w.class(); c < best {
				first, best = i, c
			}
		}
		if best > readahead && t.reading > 0 && t.busy >= max(1, t.limit/4) {
			return
		}
		w := t.waiting[first]
		w.phase = given
		close(w.granted)
		t.waiting = slices.Delete(t.waiting, first, first+1)
		t.busy++
	}
}
