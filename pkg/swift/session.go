package swift

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
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
	options   Options
	transport http.RoundTripper

	cred Credentials // of the log-in on its way, or of the last one
	used bool        // cred has been tried, so Reload is asked from now on

	mu      sync.Mutex // guards what follows
	current *session
	flight  *flight // the log-in on its way
}

type flight struct {
	done    chan struct{} // closed when the fields below are set
	session *session
	err     error
}

func newLogin(cred Credentials, o Options, t *http.Transport) *login {
	return &login{options: o, cred: cred, transport: roundTripper{t}}
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

// fly logs in for all that wait for f. It belongs to none of them, so that one
// that gives up does not fail the others.
func (l *login) fly(f *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), l.options.Stall)
	defer cancel()
	s, err := l.logIn(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	f.session, f.err = s, err
	l.flight = nil
	if err == nil {
		l.current = s
	}
	close(f.done)
}

func (l *login) logIn(ctx context.Context) (*session, error) {
	r := request{op: "log in"}
	cred, err := l.credentials()
	if err != nil {
		return nil, r.fail(ErrUnauthorized, 0, err)
	}
	conn := cred.connection(l.transport)
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
	s := &session{conn: conn, url: conn.StorageUrl}
	if !conn.Expires.IsZero() {
		s.renew = conn.Expires.Add(-time.Minute)
		conn.Expires = time.Time{} // else Call would log in by itself
	}
	return s, nil
}

// credentials asks for changed ones at every log-in but the first.
func (l *login) credentials() (Credentials, error) {
	if l.used && l.options.Reload != nil {
		cred, err := l.options.Reload()
		if err == nil {
			err = cred.check()
		}
		if err != nil {
			return cred, err
		}
		l.cred = cred
	}
	l.used = true
	return l.cred, nil
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

// roundTripper keeps two habits of ncw at bay: it closes all idle connections at
// each log-in if it can, and it drops the text of an error if io.EOF comes along
// with it.
type roundTripper struct{ inner http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.inner.RoundTrip(req)
	if err == nil && resp.StatusCode >= 400 {
		resp.Body = lateEOF{resp.Body}
	}
	return resp, err
}

// lateEOF reports the end only when nothing else is left to report.
type lateEOF struct{ io.ReadCloser }

func (r lateEOF) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// newTransport makes connections for n requests at one time.
func newTransport(cred Credentials, n int) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: 2 * time.Second,
		IdleConnTimeout:       30 * time.Second, // Swift's own end after 60 s
		MaxIdleConnsPerHost:   n,
		DisableCompression:    true, // the bytes are counted and verified as stored
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: cred.Insecure},
	}
	if cred.CAFile != "" {
		pem, err := os.ReadFile(cred.CAFile)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", cred.CAFile)
		}
	}
	return t, nil
}
