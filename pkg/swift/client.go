package swift

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	ncw "github.com/ncw/swift/v2"
)

// MaxBody bounds the body of an object in bytes, so that no answer can exhaust
// the memory.
const MaxBody = 64 << 20

// Options tune a [Client]. The zero value is what a node wants.
type Options struct {
	// Concurrency bounds the requests on their way at one time. Default 32.
	Concurrency int
	// Patience is how long a request that fails for a passing reason is repeated, or
	// waits for a store that does not answer anybody. Default 30 s; negative: it is
	// never repeated.
	Patience time.Duration
	// Stall ends an attempt during which no byte moved for that long. It is also
	// the limit of a log-in. Default 30 s.
	Stall time.Duration
	// Waiting, if set, hears why a request is still repeated after three seconds: for
	// somebody who waits for it.
	Waiting func(error)
	// Reload, if set, reads the credentials anew: before every log-in but the first,
	// and when [Client.Watch] looks for changed ones.
	Reload func() (Credentials, error)
}

func (o Options) withDefaults() Options {
	if o.Concurrency <= 0 {
		o.Concurrency = 32
	}
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	if o.Stall <= 0 {
		o.Stall = 30 * time.Second
	}
	return o
}

// Client is the [Store] of a Swift account.
type Client struct {
	options Options
	login   *login
	turns   *turnstile
	metrics *metrics
}

var _ Store = (*Client)(nil)

// New makes a client. It asks nobody: the first request logs in, so a client can
// be made while the store is away. [Client.Check] finds wrong credentials early.
func New(cred Credentials, o Options) (*Client, error) {
	o = o.withDefaults()
	if err := cred.check(); err != nil {
		return nil, &Error{Op: "configure", Kind: ErrUnauthorized, Cause: err}
	}
	turns := &turnstile{limit: o.Concurrency}
	metrics := newMetrics(turns)
	login, err := newLogin(cred, o, metrics)
	if err != nil {
		return nil, &Error{Op: "configure", Kind: ErrRejected, Cause: err}
	}
	return &Client{options: o, login: login, turns: turns, metrics: metrics}, nil
}

// Close drops the idle connections.
func (c *Client) Close() { c.login.close() }

// Watch looks for changed credentials every period until ctx ends, and logs in with
// them: requests on their way end under the old ones. Where the new ones cannot be
// read, or are refused, the old ones stay; those that are refused are tried again less
// and less often. report hears of every change, nil for one that is in use now, and of
// every new reason why one is not.
func (c *Client) Watch(ctx context.Context, period time.Duration, report func(error)) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	last := ""
	refused := refusal{period: period}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := c.login.renew(ctx, &refused)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			last = ""
			if changed {
				report(nil)
			}
		case err.Error() != last:
			last = err.Error()
			report(err)
		}
	}
}

// Check logs in and asks for the account once.
func (c *Client) Check(ctx context.Context) error {
	return c.do(ctx, request{op: "check account", method: http.MethodHead}, nil)
}

// CreateContainer implements [Store].
func (c *Client) CreateContainer(ctx context.Context, container string) error {
	r, err := onContainer("create container", http.MethodPut, container)
	if err != nil {
		return err
	}
	return c.do(ctx, r, nil)
}

// DeleteContainer implements [Store].
func (c *Client) DeleteContainer(ctx context.Context, container string) error {
	r, err := onContainer("delete container", http.MethodDelete, container)
	if err != nil {
		return err
	}
	r.meaning = map[int]error{http.StatusConflict: ErrNotEmpty}
	return c.do(ctx, r, nil)
}

// Put implements [Store].
func (c *Client) Put(ctx context.Context, container, name string, body []byte, o PutOptions) (string, error) {
	r, err := onObject("put", http.MethodPut, container, name)
	if err != nil {
		return "", err
	}
	if len(body) > MaxBody {
		return "", r.fail(ErrRejected, 0, fmt.Errorf("%d bytes, at most %d are stored", len(body), MaxBody))
	}
	etag := ETag(body)
	r.body = body
	r.headers = ncw.Headers{"ETag": etag, "Content-Type": "application/octet-stream"}
	if o.IfNoneMatch {
		r.headers["If-None-Match"] = "*"
		r.meaning = map[int]error{http.StatusPreconditionFailed: ErrExists}
	}
	if err := c.do(ctx, r, nil); err != nil {
		return "", err
	}
	return etag, nil
}

// Get implements [Store].
func (c *Client) Get(ctx context.Context, container, name string, o GetOptions) (Object, error) {
	r, err := onObject("get", http.MethodGet, container, name)
	if err != nil {
		return Object{}, err
	}
	r.headers = newest(o.Newest)
	r.meaning = map[int]error{http.StatusRequestedRangeNotSatisfiable: ErrRange}
	if s := o.rangeHeader(); s != "" {
		r.headers["Range"] = s
	}
	var obj Object
	err = c.do(ctx, r, func(a *answer) (err error) {
		obj, err = readObject(a, name, o)
		o.Buf = nil // a read that was given up may still write into it
		return err
	})
	return obj, err
}

// rangeHeader is empty when the whole object is wanted.
func (o GetOptions) rangeHeader() string {
	switch {
	case o.Off < 0:
		return fmt.Sprintf("bytes=%d", o.Off)
	case o.Len > 0:
		return fmt.Sprintf("bytes=%d-%d", o.Off, o.Off+o.Len-1)
	case o.Off > 0:
		return fmt.Sprintf("bytes=%d-", o.Off)
	}
	return ""
}

// readObject takes the answer to a GET, refusing one that is not what was asked
// for.
func readObject(a *answer, name string, o GetOptions) (Object, error) {
	info, err := a.info(name)
	if err != nil {
		return Object{}, err
	}
	obj := Object{Info: info}
	length := info.Size // of the body
	switch ranged := o.rangeHeader() != ""; {
	case ranged && a.StatusCode == http.StatusPartialContent:
		if obj.Off, obj.Size, err = parseContentRange(a.Header.Get("Content-Range"), length); err != nil {
			return Object{}, err
		}
	case ranged && !(o.Off < 0 && length == 0): // all of an empty object is its end
		return Object{}, fmt.Errorf("%w: status %d for range %q", errAnswer, a.StatusCode, o.rangeHeader())
	}
	if length > MaxBody || o.Len > 0 && o.Off >= 0 && length > o.Len {
		return Object{}, fmt.Errorf("%w: a body of %d bytes", errAnswer, length)
	}
	obj.Body, err = a.read(o.Buf, length)
	return obj, err
}

// parseContentRange reads "bytes first-last/size" of a body of length bytes.
func parseContentRange(s string, length int64) (first, size int64, err error) {
	var last int64
	if n, err := fmt.Sscanf(s, "bytes %d-%d/%d", &first, &last, &size); n != 3 || err != nil ||
		first < 0 || last < first || last >= size || last-first+1 != length {
		return 0, 0, fmt.Errorf("%w: Content-Range %.64q of %d bytes", errAnswer, s, length)
	}
	return first, size, nil
}

// Head implements [Store].
func (c *Client) Head(ctx context.Context, container, name string, o HeadOptions) (info Info, err error) {
	r, err := onObject("head", http.MethodHead, container, name)
	if err != nil {
		return Info{}, err
	}
	r.headers = newest(o.Newest)
	err = c.do(ctx, r, func(a *answer) (err error) {
		info, err = a.info(name)
		return err
	})
	return info, err
}

// Delete implements [Store].
func (c *Client) Delete(ctx context.Context, container, name string) error {
	r, err := onObject("delete", http.MethodDelete, container, name)
	if err != nil {
		return err
	}
	return c.do(ctx, r, nil)
}

func newest(yes bool) ncw.Headers {
	h := ncw.Headers{}
	if yes {
		h["X-Newest"] = "true"
	}
	return h
}

// onContainer and onObject make requests. They refuse the names that Swift
// refuses, and above all empty ones: DELETE of an object without a name would be
// DELETE of its container.
func onContainer(op, method, container string) (request, error) {
	r := request{op: op, method: method, container: container}
	switch {
	case container == "" || len(container) > MaxContainerName:
		return r, r.fail(ErrRejected, 0, fmt.Errorf("container name of %d bytes, want 1 to %d", len(container), MaxContainerName))
	case strings.Contains(container, "/") || !utf8.ValidString(container):
		return r, r.fail(ErrRejected, 0, errors.New("a container name is UTF-8 without a slash"))
	}
	return r, nil
}

func onObject(op, method, container, name string) (request, error) {
	r, err := onContainer(op, method, container)
	if err != nil {
		return r, err
	}
	r.object = name
	switch {
	case name == "" || len(name) > MaxObjectName:
		return r, r.fail(ErrRejected, 0, fmt.Errorf("object name of %d bytes, want 1 to %d", len(name), MaxObjectName))
	case !utf8.ValidString(name):
		return r, r.fail(ErrRejected, 0, errors.New("an object name is UTF-8"))
	}
	return r, nil
}

// page makes the parameters of a listing.
func page(prefix, marker string, limit int) (url.Values, error) {
	if limit < 0 || limit > MaxListing {
		return nil, fmt.Errorf("limit %d, want 0 to %d", limit, MaxListing)
	}
	if limit == 0 {
		limit = MaxListing
	}
	v := url.Values{"format": {"json"}, "limit": {strconv.Itoa(limit)}}
	if prefix != "" {
		v.Set("prefix", prefix)
	}
	if marker != "" {
		v.Set("marker", marker)
	}
	return v, nil
}
