package swift

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// lines are the connections to a store, and whom they trust.
type lines struct {
	transport *http.Transport
	ca        []byte // content of the credentials' CAFile
	insecure  bool
}

// newLines makes connections for n requests at one time.
func newLines(cred Credentials, n int) (*lines, error) {
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
	l := &lines{transport: t, insecure: cred.Insecure}
	if cred.CAFile != "" {
		pem, err := os.ReadFile(cred.CAFile)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", cred.CAFile)
		}
		l.ca = pem
	}
	return l, nil
}

// same reports whether cred says the same of connections.
func (l *lines) same(cred Credentials) bool {
	var ca []byte
	if cred.CAFile != "" {
		ca, _ = os.ReadFile(cred.CAFile) // an error shows when they are made
	}
	return cred.Insecure == l.insecure && bytes.Equal(ca, l.ca)
}

// RoundTrip implements [http.RoundTripper] and keeps two habits of ncw at bay: it
// closes all idle connections at each log-in if it finds how, and it drops the text
// of an error if io.EOF comes along with it.
func (l *lines) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.transport.RoundTrip(req)
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
