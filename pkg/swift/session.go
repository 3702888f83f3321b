package swift

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	ncw "github.com/ncw/swift/v2"
)

// session is one successful log-in. It never changes: ncw would log in again by
// itself for each of many callers, so that is switched off and a new session
// replaces an old one.
type session struct {
	conn  *ncw.Connection
	url   string    // of the account
	renew time.Time // log in anew from then on; zero: when the token is refused
}

// login hands out the session of the day and sees to it that one log-in serves
// all callers.
type login struct {
	options Options
	metrics *metrics

	mu      sync.Mutex  // guards what follows
	cred    Credentials // that worked last, at first those given
	tried   bool        // so that Reload is asked from now on
	given   Credentials // read last, whether they work or not; zero: they could not be read
	refused bool        // what was read last is, or could not be read
	lines   *lines      // what cred says of connections
	current *session
	flight  *flight // the log-in on its way
}

type flight struct {
	done    chan struct{} // closed when the fields below are set
	session *session
	err     error
}

func newLogin(cred Credentials, o Options, m *metrics) (*login, error) {
	lines, err := newLines(cred, o.Concurrency)
	if err != nil {
		return nil, err
	}
	return &login{options: o, metrics: m, cred: cred, given: cred, lines: lines}, nil
}

func (l *login) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines.transport.CloseIdleConnections()
}

// session returns a session other than the refused one (nil: any).
func (l *login) session(ctx context.Context, refused *session) (*session, error) {
	l.mu.Lock()
	if s := l.current; s != nil && s != refused && (s.renew.IsZero() || time.Now().Before(s.renew)) {
		l.mu.Unlock()
		return s, nil
	}
	f := l.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		l.flight = f
		go l.fly(f)
	}
	l.mu.Unlock()
	select {
	case <-f.done:
		return f.session, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// worked tells whether anybody has logged in.
func (l *login) worked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current != nil
}

// fly logs in for all that wait for f. It belongs to none of them, so that one
// that gives up does not fail the others.
func (l *login) fly(f *flight) {
	f.session, f.err = l.again(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flight = nil
	close(f.done)
}

// again logs in with what Reload says, or with the last credentials that worked
// if that cannot be read or is refused.
func (l *login) again(ctx context.Context) (*session, error) {
	l.mu.Lock()
	last, tried := l.cred, l.tried
	l.tried = true
	l.mu.Unlock()
	if tried && l.options.Reload != nil {
		if cred, err := l.reload(); err == nil && cred != last {
			if s, err := l.logIn(ctx, cred); !errors.Is(err, ErrUnauthorized) {
				return s, err
			}
		}
	}
	return l.logIn(ctx, last)
}

// refusal is that of changed credentials. They may become good, as where the file came
// before the password; but an identity service may lock out who asks too often.
type refusal struct {
	period time.Duration
	cred   Credentials
	err    error // nil: none was refused
	times  int
	until  time.Time // not to be tried again before
}

func (r *refusal) note(cred Credentials, err error) {
	if !errors.Is(err, ErrUnauthorized) {
		*r = refusal{period: r.period}
		return
	}
	if cred != r.cred {
		r.cred, r.times = cred, 0
	}
	r.err, r.until = err, time.Now().Add(r.period<<min(r.times, 6)) // 5 minutes of 5 s
	r.times++
}

// renew logs in with changed credentials, if there are any, and it was not refused with
// them lately. It tries those in use again, too, while they are refused: where nobody
// makes requests that would be shown for ever.
func (l *login) renew(ctx context.Context, refused *refusal) (changed bool, err error) {
	cred, err := l.reload()
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	same := cred == l.cred && l.lines.same(cred)
	works := same && !l.refused
	l.mu.Unlock()
	switch {
	case works:
		return false, nil
	case refused.err != nil && cred == refused.cred && time.Now().Before(refused.until):
		err = refused.err
	default:
		_, err = l.logIn(ctx, cred)
		refused.note(cred, err)
	}
	if same { // its requests say what is wrong with them
		return false, nil
	}
	return err == nil, err
}

// reload reads the credentials anew.
func (l *login) reload() (Credentials, error) {
	cred, err := l.options.Reload()
	if err == nil {
		err = cred.check()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.given = Credentials{}
		l.show(true)
		return cred, request{op: "reload credentials"}.fail(ErrUnauthorized, 0, err)
	}
	l.given = cred // it is for a log-in to say whether they work
	return cred, nil
}

// note counts a log-in, and keeps what it says of the credentials that were read last:
// nothing, if it was not answered.
func (l *login) note(cred Credentials, err error) {
	l.metrics.loggedIn(err)
	refused := errors.Is(err, ErrUnauthorized)
	l.mu.Lock()
	defer l.mu.Unlock()
	if cred == l.given && (err == nil || refused) {
		l.show(refused)
	}
}

// show tells the metrics, too, whether what was read last is refused. The login is locked.
func (l *login) show(refused bool) {
	l.refused = refused
	value := 0.0
	if refused {
		value = 1
	}
	l.metrics.refused.Set(value)
}

// logIn makes a session and, if that succeeds, the one for all from now on.
func (l *login) logIn(ctx context.Context, cred Credentials) (s *session, err error) {
	defer func() { l.note(cred, err) }()
	ctx, cancel := context.WithTimeout(ctx, l.options.Stall)
	defer cancel()
	r := request{op: "log in"}
	l.mu.Lock()
	lines := l.lines
	l.mu.Unlock()
	if !lines.same(cred) {
		if lines, err = newLines(cred, l.options.Concurrency); err != nil {
			return nil, r.fail(ErrRejected, 0, err)
		}
	}
	conn := cred.connection(lines)
	if err := conn.Authenticate(ctx); err != nil {
		var e *Error
		switch err := r.explain(err); {
		case !errors.As(err, &e):
			e = r.fail(ErrUnavailable, 0, err)
		case e.Status == http.StatusNotFound:
			e = r.fail(ErrRejected, e.Status, fmt.Errorf("no identity service at %s", cred.AuthURL))
		case e.Status == 0:
			e = r.fail(ErrRejected, 0, fmt.Errorf("the answer names no object store (region %q): %w", cred.Region, err))
		}
		return nil, e
	}
	s = &session{conn: conn, url: conn.StorageUrl}
	if !conn.Expires.IsZero() {
		s.renew = conn.Expires.Add(-time.Minute)
		conn.Expires = time.Time{} // else Call would log in by itself
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines != lines {
		l.lines.transport.CloseIdleConnections()
	}
	l.cred, l.lines, l.current = cred, lines, s
	return s, nil
}

// forever switches off a time-out of ncw: [watchdog] and contexts do its work.
const forever = 1000 * time.Hour

// connection prepares ncw's side of a log-in.
func (c Credentials) connection(t http.RoundTripper) *ncw.Connection {
	return &ncw.Connection{
		AuthVersion:    c.Version,
		AuthUrl:        c.AuthURL,
		UserName:       c.User,
		UserId:         c.UserID,
		ApiKey:         c.Key,
		Domain:         c.UserDomain,
		DomainId:       c.UserDomainID,
		Tenant:         c.Project,
		TenantId:       c.ProjectID,
		TenantDomain:   c.ProjectDomain,
		TenantDomainId: c.ProjectDomainID,
		Region:         c.Region,
		EndpointType:   ncw.EndpointType(c.Interface),

		ApplicationCredentialId:     c.AppID,
		ApplicationCredentialName:   c.AppName,
		ApplicationCredentialSecret: c.AppSecret,

		UserAgent:      "csi-swiftblock",
		Transport:      t,
		Retries:        -1, // ours know the statuses and wait between attempts
		ConnectTimeout: forever,
		Timeout:        forever,
	}
}
