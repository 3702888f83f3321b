package volume

import (
	"sync"
	"time"
)

// health is how the publication gets on.
type health struct {
	mu        sync.Mutex
	err       error // why the last attempt failed; nil: it did not
	from      time.Time
	published time.Time
}

// note takes notice of how an attempt went.
func (h *health) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil && h.err == nil {
		h.from = time.Now()
	}
	h.err = err
}

// advanced takes notice of a publication.
func (h *health) advanced() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.published = time.Now()
}

// get returns when something was last published, and since when and why nothing
// has succeeded.
func (h *health) get() (published, from time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.published, h.from, h.err
}
