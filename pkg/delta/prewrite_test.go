package delta

import "testing"

// A stream has the disk to itself; from the first flush after it on, the log is
// prewritten again, from where the stream has come to.
func TestPrewriteStandsBackForAStream(t *testing.T) {
	const segment = 64 * prewriteChunk
	w := newPrewriter(&ring{size: segment, slots: make([]*slot, 4)}, nil, segment, 0)
	due := func(when string, want bool) {
		t.Helper()
		w.mu.Lock()
		defer w.mu.Unlock()
		if got := w.wants(); got != want {
			t.Errorf("%s: due %t, want %t", when, got, want)
		}
	}
	due("a new log", true)
	w.claim(prewriteChunk, 7)
	due("little since the last flush", true)
	for end := int64(2); end < 10; end++ {
		w.claim(end*prewriteChunk, 7)
	}
	due("a stream", false)
	w.claim(10*prewriteChunk, 8)
	due("a flush", true)
}
