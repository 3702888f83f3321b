// Package embedded is an object store that speaks as much of the OpenStack Swift
// API as this project uses, and keeps everything in files. It is what the demo
// and most tests run on; pkg/swift/swifttest holds it to the answers of a real
// Swift.
//
// It offers log-in of version 1; GET, HEAD, PUT and DELETE of containers and
// objects with ETag check, If-None-Match: * and one byte range; listings, plain
// and JSON, with prefix, marker, end_marker and limit; bulk delete. It leaves out
// metadata, large objects, versions, copies, quotas and access lists.
//
// On disk:
//
//	key                        the key of the account
//	lock                       flocked by the process that serves the directory
//	aside/                     what is being written or removed; emptied at start
//	containers/<hash>/name     the container's name
//	containers/<hash>/<hash>   an object; both hashes are SHA-256 of the name
//
// An object file (numbers are big-endian):
//
//	0   8  "SBOBJ\0\0" and the version "1"
//	8   8  size of the body in bytes
//	16  16 MD5 of the body
//	32  8  time of the change, microseconds since 1970
//	40  2  length n of the name
//	42  n  the name
//	42+n   the body
package embedded

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// Limits, as in Swift's default configuration.
const (
	maxContainerName = 256
	maxObjectName    = 1024
	maxListing       = 10000
	maxBody          = 5<<30 + 2
)

// StatsPath answers GET with [Stats] as JSON, without a token.
const StatsPath = "/_swiftblock/stats"

const (
	authPath    = "/auth/v1.0"
	accountPath = "/v1/AUTH_swiftblock"
)

// Options tune a [Handler].
type Options struct {
	User    string        // default "swiftblock:demo"
	Key     string        // default: drawn at random once and kept in the directory
	Latency time.Duration // waited before every answer
	NoSync  bool          // trade durability against power loss for speed; for tests
}

// Handler serves one account from a directory.
type Handler struct {
	options Options
	disk    *disk
	token   string // of this process's life
	stats   stats
}

// Open takes a directory, made if it is not there, for this process.
func Open(dir string, o Options) (*Handler, error) {
	d, err := openDisk(dir, o.NoSync)
	if err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	h := &Handler{options: o, disk: d, token: "AUTH_tk" + rand.Text()}
	if h.options.User == "" {
		h.options.User = "swiftblock:demo"
	}
	if h.options.Key == "" {
		if h.options.Key, err = d.key(); err != nil {
			d.close()
			return nil, fmt.Errorf("embedded store: %w", err)
		}
	}
	return h, nil
}

// key reads the key of the account, drawing it at the first time.
func (d *disk) key() (string, error) {
	path := filepath.Join(d.root, "key")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		b = []byte(rand.Text())
		err = d.writeFile(path, b)
	}
	return string(b), err
}

// Close gives the directory free. No request may be on its way.
func (h *Handler) Close() error { return h.disk.close() }

// User and Key are what a client logs in with.
func (h *Handler) User() string { return h.options.User }

// Key is the secret of [Handler.User].
func (h *Handler) Key() string { return h.options.Key }

// Stats returns what was served since the start.
func (h *Handler) Stats() Stats { return h.stats.snapshot() }

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case StatsPath:
		writeJSON(rw, h.Stats())
		return
	case "/healthcheck":
		fmt.Fprint(rw, "OK")
		return
	}
	w, r, done := h.stats.observe(rw, r)
	defer done()
	if h.options.Latency > 0 {
		select {
		case <-time.After(h.options.Latency):
		case <-r.Context().Done():
			return
		}
	}
	if r.URL.Path == authPath {
		h.logIn(w, r)
		return
	}
	if !equal(r.Header.Get("X-Auth-Token"), h.token) {
		w.Header().Set("Www-Authenticate", `Swift realm="swiftblock"`)
		answer(w, http.StatusUnauthorized)
		return
	}
	h.route(w, r)
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (h *Handler) logIn(w http.ResponseWriter, r *http.Request) {
	// & and not &&: the time tells nothing about either.
	user, key := equal(r.Header.Get("X-Auth-User"), h.options.User), equal(r.Header.Get("X-Auth-Key"), h.options.Key)
	if !user || !key {
		answer(w, http.StatusUnauthorized)
		return
	}
	w.Header().Set("X-Storage-Url", "http://"+r.Host+accountPath)
	w.Header().Set("X-Auth-Token", h.token)
	w.WriteHeader(http.StatusOK)
}

// route finds the account, container or object that a request is about.
func (h *Handler) route(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, accountPath)
	if !ok || path != "" && path[0] != '/' {
		answer(w, http.StatusForbidden)
		return
	}
	container, object, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case !utf8.ValidString(path) || strings.ContainsRune(path, 0):
		answer(w, http.StatusPreconditionFailed)
	case len(container) > maxContainerName || len(object) > maxObjectName:
		answer(w, http.StatusBadRequest)
	case object != "":
		h.serveObject(w, r, container, object)
	case container != "":
		h.serveContainer(w, r, container)
	default:
		h.serveAccount(w, r)
	}
}

// answer writes a status with its text.
func answer(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(status)
	if status != http.StatusNoContent {
		fmt.Fprintln(w, http.StatusText(status))
	}
}

// fail answers with the status of an error of the disk.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	for _, m := range []struct {
		err    error
		status int
	}{
		{errNoContainer, http.StatusNotFound},
		{errNoObject, http.StatusNotFound},
		{errExists, http.StatusPreconditionFailed},
		{errNotEmpty, http.StatusConflict},
		{errETag, http.StatusUnprocessableEntity},
		{errCutShort, 499},
		{syscall.ENOSPC, http.StatusInsufficientStorage},
	} {
		if errors.Is(err, m.err) {
			status = m.status
		}
	}
	answer(w, status)
}
