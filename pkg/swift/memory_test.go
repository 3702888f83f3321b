package swift

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// wireless is a store that is reached without a network: log-ins apart, fake
// answers all requests.
func wireless(t *testing.T, o Options, fake func(*http.Request) (*http.Response, error)) *Client {
	t.Helper()
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Storage-Url", "fake://store/v1/a")
		w.Header().Set("X-Auth-Token", "token")
	}))
	t.Cleanup(auth.Close)
	c, err := New(Credentials{Version: 1, AuthURL: auth.URL, User: "u", Key: "k"}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.login.lines.transport.RegisterProtocol("fake", transportFunc(fake))
	return c
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func found(r *http.Request, size int, body io.Reader) *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, Request: r, ContentLength: int64(size), Body: io.NopCloser(body),
		Header: http.Header{"Last-Modified": {time.Now().UTC().Format(http.TimeFormat)}, "Content-Length": {fmt.Sprint(size)}},
	}
}

// lateBody gives up with its request, and writes into the reader's memory later.
type lateBody struct {
	ctx     context.Context
	release chan struct{}
	done    chan struct{}
}

func (b *lateBody) Read(p []byte) (int, error) {
	go func() {
		defer close(b.done)
		<-b.release
		for i := range p {
			p[i] = 'L'
		}
	}()
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

// The caller's memory belongs to an attempt that was given up; the next one reads
// into memory of its own.
func TestLateBodyIsNotReadIntoMemoryTakenBack(t *testing.T) {
	late := &lateBody{release: make(chan struct{}), done: make(chan struct{})}
	want := bytes.Repeat([]byte("good"), 1000)
	c := wireless(t, Options{Stall: 20 * time.Millisecond}, func(r *http.Request) (*http.Response, error) {
		if late.ctx == nil {
			late.ctx = r.Context()
			return found(r, len(want), late), nil
		}
		return found(r, len(want), bytes.NewReader(want)), nil
	})
	obj, err := c.Get(t.Context(), "c", "o", GetOptions{Buf: make([]byte, 0, len(want))})
	if err != nil {
		t.Fatal(err)
	}
	close(late.release)
	<-late.done
	if !bytes.Equal(obj.Body, want) {
		t.Errorf("the late body is in the memory of the answer: %.20q…", obj.Body)
	}
}

// After Put returned nobody reads the caller's memory any more, though a transport
// may go on reading the body of a request that it gave up.
func TestBodyIsNotSentFromMemoryTakenBack(t *testing.T) {
	var body io.Reader
	c := wireless(t, Options{Patience: -1}, func(r *http.Request) (*http.Response, error) {
		body = r.Body
		io.ReadFull(body, make([]byte, 10))
		return nil, io.ErrUnexpectedEOF
	})
	if _, err := c.Put(t.Context(), "c", "o", make([]byte, 1000), PutOptions{}); err == nil {
		t.Fatal("stored")
	}
	if n, err := body.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Errorf("read %d more bytes, %v", n, err)
	}
}
