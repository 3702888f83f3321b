package swift

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turnstile lets requests go out: at most limit at one time, in the order in which
// they came, and while the store does not work none but probes.
//
// While a [breaker] is broken, one request of its kind goes out now and then, the
// one that has waited longest; with the first answer all go on. No request fails
// because of that: it waits as long as its caller does.
type turnstile struct {
	limit int

	mu       sync.Mutex
	waiting  []*ticket
	under    int // requests on their way
	breakers [kinds]breaker
}

// kind tells requests apart that a cluster can refuse apart: one that has lost its
// quorum serves reads and takes no changes.
type kind int

const (
	reading kind = iota
	changing
	kinds
)

func (k kind) String() string { return [kinds]string{"reading", "changing"}[k] }

// ticket is one request at the turnstile.
type ticket struct {
	kind     kind
	probe    bool          // set when admitted
	admitted chan struct{} // closed then
}

// enter waits for a turn; who has it must leave. It gives up when ctx ends, or when
// a broken store was waited for as long as patience (0: any time).
func (t *turnstile) enter(ctx context.Context, k kind, patience time.Duration) (*ticket, error) {
	own := &ticket{kind: k, admitted: make(chan struct{})}
	t.mu.Lock()
	t.waiting = append(t.waiting, own)
	t.admit()
	t.mu.Unlock()
	var lost <-chan time.Time
	for {
		if patience > 0 {
			lost = time.After(patience)
		}
		select {
		case <-own.admitted:
			return own, nil
		case <-ctx.Done():
			return nil, t.withdraw(own, ctx.Err())
		case <-lost:
			if err := t.trouble(k); err != nil { // else all are only busy
				return nil, t.withdraw(own, err)
			}
		}
	}
}

// withdraw takes back a ticket, which may have been admitted a moment ago.
func (t *turnstile) withdraw(own *ticket, why error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, own); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	} else {
		t.release(own, nil, true)
	}
	return why
}

// leave gives the turn back. failure is what kept the store from answering, nil if
// it answered; vague: what happened says nothing about the store.
func (t *turnstile) leave(own *ticket, failure error, vague bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(own, failure, vague)
}

func (t *turnstile) release(own *ticket, failure error, vague bool) {
	t.under--
	b := &t.breakers[own.kind]
	if own.probe {
		b.probing = false
	}
	switch {
	case vague:
	case failure == nil:
		*b = breaker{}
	default:
		if pause := b.failed(failure, own.probe); pause > 0 {
			time.AfterFunc(pause, t.wake)
		}
	}
	t.admit()
}

func (t *turnstile) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.admit()
}

// admit lets go whoever may go now. t.mu is held.
func (t *turnstile) admit() {
	now := time.Now()
	t.waiting = slices.DeleteFunc(t.waiting, func(k *ticket) bool {
		b := &t.breakers[k.kind]
		if t.under >= t.limit || !b.admits(now) {
			return false
		}
		k.probe = b.broken()
		b.probing = b.probing || k.probe
		t.under++
		close(k.admitted)
		return true
	})
}

// trouble says why requests of a kind wait; nil: they do not, but for each other.
func (t *turnstile) trouble(k kind) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := &t.breakers[k]; b.broken() {
		return b.last
	}
	return nil
}

// counts returns how many requests are on their way, and how many wait.
func (t *turnstile) counts() (under, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.under, len(t.waiting)
}

// tolerance is how many requests in a row may get no answer before the store as a
// whole counts as broken: with one node of three gone, eight in a row are chance
// once in thousands of times.
const tolerance = 8

// breaker counts requests that got no answer, or one that blames the server,
// without a good one between them. turnstile.mu guards it.
type breaker struct {
	failures int
	last     error // why the last one failed

	// While it is broken:
	probing bool      // a probe is on its way
	probes  int       // how many have failed
	next    time.Time // from when on one may go
}

func (b *breaker) broken() bool { return b.failures >= tolerance }

func (b *breaker) admits(now time.Time) bool {
	return !b.broken() || !b.probing && !now.Before(b.next)
}

// failed counts a failure. If it is one after which a probe is due, it returns the
// pause until then.
func (b *breaker) failed(why error, probe bool) time.Duration {
	b.failures++
	b.last = why
	if !probe && b.failures != tolerance {
		return 0
	}
	pause := backOff(b.probes)
	b.probes++
	b.next = time.Now().Add(pause)
	return pause
}
