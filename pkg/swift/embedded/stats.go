package embedded

import (
	"io"
	"net/http"
	"sync"
)

// Count is what one kind of request moved.
type Count struct {
	Requests int64 `json:"requests"`
	In       int64 `json:"in"`  // body bytes received
	Out      int64 `json:"out"` // body bytes sent
}

// Stats counts requests by method since the start.
type Stats map[string]Count

// Total sums over all methods.
func (s Stats) Total() Count {
	var sum Count
	for _, c := range s {
		sum.Requests += c.Requests
		sum.In += c.In
		sum.Out += c.Out
	}
	return sum
}

type stats struct {
	mu     sync.Mutex
	counts Stats
}

func (s *stats) snapshot() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := Stats{}
	for method, c := range s.counts {
		counts[method] = c
	}
	return counts
}

// observe counts what passes through the writer and request that it returns,
// until done is called. It leaves r alone: net/http looks at r.Body to see whether
// the client still waits for "100 Continue".
func (s *stats) observe(w http.ResponseWriter, r *http.Request) (_ http.ResponseWriter, _ *http.Request, done func()) {
	out := &countingWriter{ResponseWriter: w}
	in := &countingBody{ReadCloser: r.Body}
	r = r.WithContext(r.Context())
	r.Body = in
	return out, r, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.counts == nil {
			s.counts = Stats{}
		}
		c := s.counts[r.Method]
		c.Requests++
		c.In += in.n
		c.Out += out.n
		s.counts[r.Method] = c
	}
}

type countingWriter struct {
	http.ResponseWriter
	n int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err
}

// ReadFrom keeps the way open for sendfile.
func (w *countingWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, r)
	w.n += n
	return n, err
}

type countingBody struct {
	io.ReadCloser
	n int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}
