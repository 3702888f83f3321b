package embedded

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

func (h *Handler) serveContainer(w http.ResponseWriter, r *http.Request, name string) {
	switch r.Method {
	case http.MethodPut:
		made, err := h.disk.createContainer(name)
		switch {
		case err != nil:
			fail(w, err)
		case made:
			answer(w, http.StatusCreated)
		default:
			answer(w, http.StatusAccepted)
		}
	case http.MethodDelete:
		if err := h.disk.deleteContainer(name); err != nil {
			fail(w, err)
			return
		}
		answer(w, http.StatusNoContent)
	case http.MethodGet, http.MethodHead:
		c, err := h.disk.container(name)
		if err != nil {
			fail(w, err)
			return
		}
		h.list(w, r, c.rows)
	default:
		answer(w, http.StatusMethodNotAllowed)
	}
}

func (h *Handler) serveAccount(w http.ResponseWriter, r *http.Request) {
	switch {
	case (r.Method == http.MethodPost || r.Method == http.MethodDelete) && r.URL.Query().Has("bulk-delete"):
		h.bulkDelete(w, r)
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		w.Header().Set("X-Account-Bytes-Used", strconv.FormatInt(h.disk.bytes(), 10))
		h.list(w, r, h.disk.rows)
	default:
		answer(w, http.StatusMethodNotAllowed)
	}
}

// window is the part of the sorted names that a listing asks for.
type window struct {
	prefix, marker, end string
	limit               int
}

// cut returns the names in the window.
func (w window) cut(names []string) []string {
	from, found := slices.BinarySearch(names, max(w.prefix, w.marker))
	if found && w.marker >= w.prefix && w.marker != "" {
		from++
	}
	to := from
	for to < len(names) && to-from < w.limit && strings.HasPrefix(names[to], w.prefix) && (w.end == "" || names[to] < w.end) {
		to++
	}
	return names[from:to]
}

// row is one line of a listing, in the words of Swift's JSON.
type row struct {
	Name     string `json:"name"`
	Bytes    int64  `json:"bytes"`
	Hash     string `json:"hash,omitempty"`
	Type     string `json:"content_type,omitempty"`
	Modified string `json:"last_modified,omitempty"`
}

// rows lists objects.
func (c *container) rows(w window) []row {
	c.mu.RLock()
	defer c.mu.RUnlock()
	rows := []row{}
	for _, name := range w.cut(c.names) {
		m := c.objects[name]
		rows = append(rows, row{
			Name: name, Bytes: m.size, Hash: m.etag(), Type: "application/octet-stream",
			Modified: m.modified.UTC().Format("2006-01-02T15:04:05.000000"),
		})
	}
	return rows
}

// rows lists containers.
func (d *disk) rows(w window) []row {
	d.mu.RLock()
	defer d.mu.RUnlock()
	names := make([]string, 0, len(d.containers))
	for name := range d.containers {
		names = append(names, name)
	}
	slices.Sort(names)
	rows := []row{}
	for _, name := range w.cut(names) {
		rows = append(rows, row{Name: name})
	}
	return rows
}

// bytes sums the sizes of all objects.
func (d *disk) bytes() (n int64) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, c := range d.containers {
		c.mu.RLock()
		for _, m := range c.objects {
			n += m.size
		}
		c.mu.RUnlock()
	}
	return n
}

// list answers with the rows that the request's parameters ask for.
func (h *Handler) list(w http.ResponseWriter, r *http.Request, rows func(window) []row) {
	q := r.URL.Query()
	win := window{prefix: q.Get("prefix"), marker: q.Get("marker"), end: q.Get("end_marker"), limit: maxListing}
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > maxListing {
			answer(w, http.StatusPreconditionFailed)
			return
		}
		win.limit = n
	}
	if r.Method == http.MethodHead {
		answer(w, http.StatusNoContent)
		return
	}
	found := rows(win)
	switch {
	case q.Get("format") == "json":
		writeJSON(w, found)
	case len(found) == 0:
		answer(w, http.StatusNoContent)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		for _, row := range found {
			fmt.Fprintln(w, row.Name)
		}
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	json.NewEncoder(w).Encode(v) // an error is the client's, who is gone
}

// bulkDelete removes the objects (or empty containers) whose escaped paths are
// the lines of the body. Like Swift's, its status is 200 whatever happens, and
// the outcome is in the body.
func (h *Handler) bulkDelete(w http.ResponseWriter, r *http.Request) {
	type outcome struct {
		Deleted  int         `json:"Number Deleted"`
		NotFound int         `json:"Number Not Found"`
		Status   string      `json:"Response Status"`
		Body     string      `json:"Response Body"`
		Errors   [][2]string `json:"Errors"`
	}
	result := outcome{Status: "200 OK", Errors: [][2]string{}}
	lines := bufio.NewScanner(http.MaxBytesReader(w, r.Body, 64<<20))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		switch err := h.deletePath(line); {
		case err == nil:
			result.Deleted++
		case errors.Is(err, errNoContainer), errors.Is(err, errNoObject):
			result.NotFound++
		case errors.Is(err, errNotEmpty):
			result.Errors = append(result.Errors, [2]string{line, "409 Conflict"})
		default:
			result.Errors = append(result.Errors, [2]string{line, "500 Internal Error"})
		}
	}
	if len(result.Errors) > 0 || lines.Err() != nil {
		result.Status = "400 Bad Request"
	}
	writeJSON(w, result)
}

// deletePath removes what an escaped path names.
func (h *Handler) deletePath(path string) error {
	path, err := url.PathUnescape(path)
	if err != nil {
		return err
	}
	containerName, object, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if object == "" {
		return h.disk.deleteContainer(containerName)
	}
	c, err := h.disk.container(containerName)
	if err != nil {
		return err
	}
	return h.disk.delete(c, object)
}
