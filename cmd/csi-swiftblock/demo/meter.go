package demo

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
)

// traffic counts what went to and came from Swift.
type traffic struct {
	puts, gets     int64 // of objects, that succeeded
	sent, received int64 // bytes of their bodies
}

func (t traffic) minus(u traffic) traffic {
	return traffic{t.puts - u.puts, t.gets - u.gets, t.sent - u.sent, t.received - u.received}
}

// meter is a proxy between our processes and Swift that counts. What the demo
// says about objects and bytes is what went over the wire, whichever Swift it is.
type meter struct {
	address string // http://host:port of the meter
	server  *http.Server

	mu    sync.Mutex
	total traffic
}

// newMeter starts a meter in front of the Swift whose v1 authentication URL is
// auth.
func newMeter(auth string) (*meter, error) {
	upstream, err := url.Parse(auth)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &meter{address: "http://" + listener.Addr().String()}
	target := &url.URL{Scheme: upstream.Scheme, Host: upstream.Host}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			if r.In.Method == http.MethodPut && r.Out.Body != nil {
				r.Out.Body = &counter{r.Out.Body, func(n int64) { m.add(traffic{sent: n}) }}
			}
		},
		ModifyResponse: func(a *http.Response) error {
			// Authentication tells clients where the account is: behind the meter.
			if s, err := url.Parse(a.Header.Get("X-Storage-Url")); err == nil && s.Host != "" {
				a.Header.Set("X-Storage-Url", m.address+s.Path)
			}
			m.count(a)
			return nil
		},
	}
	m.server = &http.Server{Handler: proxy}
	go m.server.Serve(listener)
	return m, nil
}

// count takes one answer into account.
func (m *meter) count(a *http.Response) {
	const objectPath = 4 // slashes in /v1/account/container/object
	if a.StatusCode/100 != 2 || strings.Count(a.Request.URL.Path, "/") < objectPath {
		return
	}
	switch a.Request.Method {
	case http.MethodPut:
		m.add(traffic{puts: 1})
	case http.MethodGet:
		m.add(traffic{gets: 1})
		a.Body = &counter{a.Body, func(n int64) { m.add(traffic{received: n}) }}
	}
}

func (m *meter) add(t traffic) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.puts += t.puts
	m.total.gets += t.gets
	m.total.sent += t.sent
	m.total.received += t.received
}

func (m *meter) read() traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}

func (m *meter) close() { m.server.Close() }

// counter reports the bytes that are read through it.
type counter struct {
	io.ReadCloser
	report func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.report(int64(n))
	return n, err
}

// size prints bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
