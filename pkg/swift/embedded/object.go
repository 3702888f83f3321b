package embedded

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

func (h *Handler) serveObject(w http.ResponseWriter, r *http.Request, containerName, name string) {
	c, err := h.disk.container(containerName)
	if err != nil {
		fail(w, err)
		return
	}
	switch r.Method {
	case http.MethodPut:
		h.putObject(w, r, c, name)
	case http.MethodGet:
		h.getObject(w, r, c, name)
	case http.MethodHead:
		m, err := c.head(name)
		if err != nil {
			fail(w, err)
			return
		}
		describe(w, m)
		w.Header().Set("Content-Length", strconv.FormatInt(m.size, 10))
	case http.MethodDelete:
		if err := h.disk.delete(c, name); err != nil {
			fail(w, err)
			return
		}
		answer(w, http.StatusNoContent)
	default:
		answer(w, http.StatusMethodNotAllowed)
	}
}

func (h *Handler) putObject(w http.ResponseWriter, r *http.Request, c *container, name string) {
	match := r.Header.Get("If-None-Match")
	etag := strings.Trim(r.Header.Get("Etag"), `"`)
	switch {
	case match != "" && match != "*":
		answer(w, http.StatusBadRequest)
		return
	case r.ContentLength == 0 && r.Header.Get("Content-Length") == "":
		answer(w, http.StatusLengthRequired)
		return
	case r.ContentLength > maxBody:
		answer(w, http.StatusRequestEntityTooLarge)
		return
	}
	if err := c.mayPut(name, match == "*"); err != nil { // before the body is sent
		fail(w, err)
		return
	}
	m, err := h.disk.put(c, name, http.MaxBytesReader(w, r.Body, maxBody), etag, match == "*")
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Etag", m.etag())
	w.Header().Set("Last-Modified", lastModified(m))
	answer(w, http.StatusCreated)
}

func (h *Handler) getObject(w http.ResponseWriter, r *http.Request, c *container, name string) {
	f, m, err := c.open(name)
	if err != nil {
		fail(w, err)
		return
	}
	defer f.Close()
	describe(w, m)
	first, length, status := byteRange(r.Header.Get("Range"), m.size)
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", m.size))
		answer(w, status)
		return
	case http.StatusPartialContent:
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, first+length-1, m.size))
	}
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	w.WriteHeader(status)
	if _, err := f.Seek(m.bodyOffset()+first, io.SeekStart); err != nil {
		panic(http.ErrAbortHandler) // the promised length cannot be kept
	}
	if _, err := io.CopyN(w, f, length); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// describe sets the headers of an object.
func describe(w http.ResponseWriter, m meta) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Etag", m.etag())
	w.Header().Set("Last-Modified", lastModified(m))
	micros := m.modified.UnixMicro()
	w.Header().Set("X-Timestamp", fmt.Sprintf("%d.%05d", micros/1e6, micros%1e6/10))
}

// lastModified is rounded up to seconds, as Swift does, so that nothing seems
// older than it is.
func lastModified(m meta) string {
	return m.modified.Add(time.Second - 1).UTC().Truncate(time.Second).Format(http.TimeFormat)
}

// byteRange finds the bytes that a Range header asks for and the status that goes
// with them. A header that is malformed or names several ranges asks for all.
func byteRange(header string, size int64) (first, length int64, status int) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	from, to, dash := strings.Cut(spec, "-")
	if !ok || !dash {
		return 0, size, http.StatusOK
	}
	last := size - 1
	switch {
	case from == "": // the last bytes
		n, err := strconv.ParseUint(to, 10, 63)
		if err != nil {
			return 0, size, http.StatusOK
		}
		if size == 0 {
			return 0, 0, http.StatusOK
		}
		first = max(0, size-int64(n))
	default:
		n, err := strconv.ParseUint(from, 10, 63)
		if err != nil {
			return 0, size, http.StatusOK
		}
		first = int64(n)
		if to != "" {
			n, err := strconv.ParseUint(to, 10, 63)
			if err != nil || int64(n) < first {
				return 0, size, http.StatusOK
			}
			last = min(last, int64(n))
		}
	}
	if first > last {
		return 0, 0, http.StatusRequestedRangeNotSatisfiable
	}
	return first, last - first + 1, http.StatusPartialContent
}
