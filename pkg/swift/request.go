package swift

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	ncw "github.com/ncw/swift/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// request is one call of the API, which may take several attempts.
type request struct {
	op        string
	method    string
	container string
	object    string
	onAccount bool // sent to the account, though it concerns a container
	params    url.Values
	headers   ncw.Headers
	body      []byte
	meaning   map[int]error // of statuses, where it is not the usual one
}

// kind tells what the cluster must be fit for.
func (r request) kind() kind {
	if r.method == http.MethodGet || r.method == http.MethodHead {
		return reading
	}
	return changing
}

func (r request) fail(kind error, status int, cause error) *Error {
	return &Error{Op: r.op, Container: r.container, Object: r.object, Kind: kind, Status: status, Cause: cause}
}

// errAnswer is an answer that does not follow the protocol.
var errAnswer = errors.New("unexpected answer")

// errStalled is the cause of an attempt's end when no byte moved.
var errStalled = errors.New("no progress")

// do sends r and gives a good answer to handle (which may be nil), repeating
// both while they fail for a passing reason and patience lasts. A request that waits
// to be repeated has no turn.
func (c *Client) do(ctx context.Context, r request, handle func(*answer) error) error {
	began := time.Now()
	deadline := began.Add(c.options.Patience)
	waiting := c.options.Waiting
	var token renewal
	for repeats := 0; ; {
		var patience time.Duration
		if c.options.Patience > 0 {
			patience = max(time.Until(deadline), time.Millisecond)
		}
		s, err := c.attempt(ctx, r, token.refused, patience, handle)
		token.used(s)
		var failure *Error
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return r.fail(ctx.Err(), 0, nil)
		case !errors.As(err, &failure):
			failure = r.fail(ErrUnavailable, 0, err)
		}
		switch {
		case failure.Status == http.StatusUnauthorized && token.ended(s):
			continue
		case failure.Kind == ErrNotFound && r.method == http.MethodDelete && repeats > 0:
			return nil
		case time.Now().After(deadline):
			return failure
		case failure.Status == http.StatusUnauthorized && token.doubtful(s, c.login.worked()):
		case failure.Kind != ErrUnavailable:
			return failure
		}
		if waiting != nil && time.Since(began) > sayAfter {
			waiting(failure)
			waiting = nil // once
		}
		if err := sleep(ctx, backOff(repeats)); err != nil {
			return r.fail(err, 0, failure)
		}
		repeats++
		c.metrics.retries.WithLabelValues(r.op).Inc()
	}
}

// sayAfter is how long a request is repeated before [Options.Waiting] hears of it.
const sayAfter = 3 * time.Second

// logInsRefused is how many log-ins may be refused for one request, with credentials
// that have worked, before they count as refused. An identity service may lock out who
// asks too often.
const logInsRefused = 3

// renewal is what one request does about 401. The token may have ended: the first
// refusal of one is answered by a log-in, which serves all callers. A store of which a
// part does not know good tokens, or good keys, answers so, too; what refuses even a
// new token is such a one.
type renewal struct {
	refused *session // what the next attempt must not use
	fresh   *session // what a log-in gave that this request asked for
	renewed bool
	logIns  int // that were refused
}

// used takes note of the session of an attempt, nil if there was none.
func (n *renewal) used(s *session) {
	if n.refused != nil && s != nil {
		n.fresh = s
	}
	n.refused = nil
}

// ended is asked about the refusal of s (nil: of a log-in): whether another attempt,
// with another session, is due at once.
func (n *renewal) ended(s *session) bool {
	if s == nil || s == n.fresh {
		return false
	}
	n.refused = s
	defer func() { n.renewed = true }()
	return !n.renewed
}

// doubtful tells of the same refusal whether it may pass. worked: somebody logged in
// before.
func (n *renewal) doubtful(s *session, worked bool) bool {
	if s != nil {
		return true
	}
	n.logIns++
	return worked && n.logIns <= logInsRefused
}

// attempt sends r once, when it is its turn, in a session other than the refused
// one. It returns the session, nil if there was none.
func (c *Client) attempt(ctx context.Context, r request, refused *session, patience time.Duration, handle func(*answer) error) (*session, error) {
	turn, err := c.turns.enter(ctx, r.kind(), patience)
	if err != nil {
		return nil, err
	}
	s, err := c.login.session(ctx, refused)
	if err == nil {
		err = c.send(ctx, s, r, handle)
	}
	silence, vague := verdict(err)
	c.turns.leave(turn, silence, vague || ctx.Err() != nil)
	return s, err
}

// verdict tells what the outcome of an attempt says about the store as a whole:
// silence is not nil if it did not answer, or blames itself; vague is true if that
// cannot be told, as of a request that came too fast.
func verdict(err error) (silence error, vague bool) {
	var failure *Error
	switch {
	case err == nil:
		return nil, false
	case !errors.As(err, &failure):
		return err, false
	case failure.Status >= 500:
		return fmt.Errorf("HTTP status %d", failure.Status), false
	case failure.Kind == ErrUnavailable && failure.Status == 0:
		return failure.Cause, false // a log-in
	}
	return nil, failure.Kind == ErrUnavailable
}

// backOff grows from 0.1 s to 5 s, give or take a half, so that clients that
// failed together do not come back together.
func backOff(repeats int) time.Duration {
	d := min(100*time.Millisecond<<min(repeats, 6), 5*time.Second)
	return d/2 + rand.N(d)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// send is one exchange with the store. Errors of the network are returned as they
// are.
func (c *Client) send(ctx context.Context, s *session, r request, handle func(*answer) error) error {
	start, status := time.Now(), 0
	defer func() { c.metrics.sentOne(r.op, status, time.Since(start)) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := &watchdog{limit: c.options.Stall}
	watch.timer = time.AfterFunc(watch.limit, func() { cancel(fmt.Errorf("%w for %v", errStalled, watch.limit)) })
	defer watch.timer.Stop()

	opts := ncw.RequestOpts{Operation: r.method, ObjectName: r.object, Parameters: r.params, Headers: ncw.Headers{}}
	if !r.onAccount {
		opts.Container = r.container
	}
	for k, v := range r.headers {
		opts.Headers[k] = v
	}
	if r.method != http.MethodGet && r.method != http.MethodHead {
		opts.Headers["Content-Length"] = strconv.Itoa(len(r.body)) // else ncw sends chunks
	}
	if len(r.body) > 0 {
		body := &lent{rest: r.body}
		defer body.takeBack()
		opts.Body = &watched{body, watch, c.metrics.sent}
	}
	resp, _, err := s.conn.Call(ctx, s.url, opts)
	if resp != nil {
		status = resp.StatusCode
	}
	if err == nil {
		defer resp.Body.Close()
		if handle == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		} else {
			err = handle(&answer{resp, watched{resp.Body, watch, c.metrics.received}})
		}
	}
	if err != nil && context.Cause(ctx) != nil {
		return context.Cause(ctx) // says more than the network's error
	}
	return r.explain(err)
}

// explain turns a status that ncw reports as an error into an [*Error].
func (r request) explain(err error) error {
	var status *ncw.Error
	switch {
	case errors.Is(err, errAnswer):
		return r.fail(ErrRejected, 0, err)
	case !errors.As(err, &status):
		return err
	}
	kind := r.meaning[status.StatusCode]
	if kind == nil {
		kind = kindOf(status.StatusCode)
	}
	return r.fail(kind, status.StatusCode, detail(err, status))
}

var markup = regexp.MustCompile(`<[^>]*>`)

// detail is what the server wrote besides the status, without its markup.
func detail(err error, status *ncw.Error) error {
	text := strings.TrimPrefix(err.Error(), status.Error())
	text = strings.Join(strings.Fields(markup.ReplaceAllString(strings.TrimPrefix(text, ":"), " ")), " ")
	if text == "" {
		return nil
	}
	return errors.New(text)
}

// watchdog ends an attempt when no byte moved in either direction for limit.
// ncw's own time-outs are of no use here: they leave a goroutine behind that may
// still write to the caller's buffer.
type watchdog struct {
	timer *time.Timer
	limit time.Duration
}

// watched is a reader whose progress is reported to a watchdog, and counted.
type watched struct {
	io.Reader
	dog   *watchdog
	moved prometheus.Counter
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.dog.timer.Reset(w.dog.limit)
		w.moved.Add(float64(n))
	}
	return n, err
}

// lent is the caller's memory as the body of a request. A transport may go on
// reading a body after it gave the request up, so it is taken back.
type lent struct {
	mu   sync.Mutex
	rest []byte
}

func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *lent) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = nil
}

// answer is a response of status 2xx whose body is watched.
type answer struct {
	*http.Response
	watched
}

// read reads a body of n bytes, into buf if it is large enough.
func (a *answer) read(buf []byte, n int64) ([]byte, error) {
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	if _, err := io.ReadFull(a, buf[:n]); err != nil {
		return nil, fmt.Errorf("body of %d bytes: %w", n, err)
	}
	return buf[:n], nil
}

// info describes the object that the answer is about. Its size is that of the
// body, which is the whole object's unless a range was asked for.
func (a *answer) info(name string) (Info, error) {
	if a.ContentLength < 0 {
		return Info{}, fmt.Errorf("%w: no Content-Length", errAnswer)
	}
	modified, err := http.ParseTime(a.Header.Get("Last-Modified"))
	if err != nil {
		return Info{}, fmt.Errorf("%w: Last-Modified: %w", errAnswer, err)
	}
	return Info{
		Name:     name,
		Size:     a.ContentLength,
		ETag:     strings.Trim(a.Header.Get("Etag"), `"`),
		Modified: modified,
	}, nil
}
