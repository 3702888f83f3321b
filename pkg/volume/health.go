package volume

import "sync/atomic"

// health is why the last attempt to publish failed; none: it did not.
type health struct{ failing atomic.Pointer[error] }

// note takes notice of how an attempt went.
func (h *health) note(err error) {
	if err == nil {
		h.failing.Store(nil)
		return
	}
	failing := err // so that a success allocates nothing
	h.failing.Store(&failing)
}

func (h *health) err() error {
	if failing := h.failing.Load(); failing != nil {
		return *failing
	}
	return nil
}
