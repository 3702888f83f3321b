package swifttest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
)

// The statuses below are what OpenStack Swift 2.30.1 answers. The client avoids
// some of these requests; the embedded server is to answer them alike.
func TestProtocolEmbedded(t *testing.T) {
	t.Log("store: embedded server, files, loopback HTTP")
	_, server := NewServer(t, embedded.Options{NoSync: true})
	testProtocol(t, Credentials(server))
}

func TestProtocolRealSwift(t *testing.T) { testProtocol(t, realCredentials(t)) }

func testProtocol(t *testing.T, cred swift.Credentials) {
	account, token := logIn(t, cred)
	c := "protocol-" + rand.Text()
	long := strings.Repeat("x", 1025)
	for _, step := range []struct {
		method, path, headers, body string
		status                      int
		answer                      string // a part of the answer's body or headers
	}{
		{"PUT", "/C", "", "", 201, ""},
		{"PUT", "/C", "", "", 202, ""},
		{"PUT", "/C", "If-None-Match: *", "", 202, ""},
		{"GET", "/C", "", "", 204, ""},
		{"GET", "/C?format=json", "", "", 200, "[]"},
		{"PUT", "/C/o", "Etag: d41d8cd98f00b204e9800998ecf8427e", "hello", 422, ""},
		{"GET", "/C/o", "", "", 404, ""},
		{"PUT", "/C/o", "", "hello", 201, "Etag: 5d41402abc4b2a76b9719d911017c592"},
		{"PUT", "/C/o", "If-None-Match: *", "other", 412, ""},
		{"PUT", "/C/o", `If-None-Match: "5d41402abc4b2a76b9719d911017c592"`, "other", 400, ""},
		{"PUT", "/C/o", "Content-Length: ", "", 411, ""},
		{"PUT", "/C-absent/o", "", "x", 404, ""},
		{"PUT", "/C/" + long, "", "x", 400, ""},
		{"PUT", "/" + long, "", "", 400, ""},
		{"PUT", "/C/%ff", "", "x", 412, ""},
		{"GET", "/C/o", "", "", 200, "hello"},
		{"GET", "/C/o", "Range: bytes=1-3", "", 206, "Content-Range: bytes 1-3/5"},
		{"GET", "/C/o", "Range: bytes=-2", "", 206, "lo"},
		{"GET", "/C/o", "Range: bytes=3-100", "", 206, "Content-Range: bytes 3-4/5"},
		{"GET", "/C/o", "Range: bytes=5-", "", 416, "Content-Range: bytes */5"},
		{"GET", "/C/o", "Range: bytes=-0", "", 416, ""},
		{"GET", "/C/o", "Range: bytes=3-1", "", 200, "hello"},
		{"GET", "/C/o", "Range: lines=1-2", "", 200, "hello"},
		{"GET", "/C/o", "X-Auth-Token: wrong", "", 401, "Www-Authenticate:"},
		{"HEAD", "/C/o", "", "", 200, "Content-Length: 5"},
		{"HEAD", "/C/absent", "", "", 404, ""},
		{"GET", "/C", "", "", 200, "o\n"},
		{"GET", "/C?limit=0", "", "", 204, ""},
		{"GET", "/C?limit=10001", "", "", 412, ""},
		{"GET", "/C?end_marker=o", "", "", 204, ""},
		{"GET", "/C?end_marker=p", "", "", 200, "o\n"},
		{"GET", "/C-absent", "", "", 404, ""},
		{"HEAD", "/C", "", "", 204, ""},
		{"HEAD", "", "", "", 204, ""},
		{"GET", "?prefix=" + c, "", "", 200, c + "\n"},
		{"DELETE", "/C", "", "", 409, ""},
		{"POST", "?bulk-delete", "Content-Type: text/plain\nAccept: application/json", "/C", 200, "409 Conflict"},
		{"POST", "?bulk-delete", "Content-Type: text/plain\nAccept: application/json", "/C/o\n/C/absent", 200, `"Number Not Found": 1`},
		{"DELETE", "/C/o", "", "", 404, ""},
		{"DELETE", "/C", "", "", 204, ""},
		{"DELETE", "/C", "", "", 404, ""},
	} {
		what := fmt.Sprintf("%.40s %.60s [%s]", step.method, step.path, step.headers)
		path := strings.Replace(step.path, "/C", "/"+c, 1)
		body := strings.ReplaceAll(step.body, "/C", "/"+c)
		status, text := raw(t, account, token, step.method, path, step.headers, body)
		if text = spaceless(text); status != step.status || !strings.Contains(text, spaceless(step.answer)) {
			t.Errorf("%s: %d, want %d with %q in %.500s", what, status, step.status, step.answer, text)
		}
	}
}

// spaceless lets JSON of different layout compare.
func spaceless(s string) string { return strings.ReplaceAll(s, " ", "") }

func logIn(t *testing.T, cred swift.Credentials) (account *url.URL, token string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, cred.AuthURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-User", cred.User)
	req.Header.Set("X-Auth-Key", cred.Key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	account, err = url.Parse(resp.Header.Get("X-Storage-Url"))
	if token = resp.Header.Get("X-Auth-Token"); err != nil || token == "" {
		t.Fatalf("log in: %s, %v", resp.Status, err)
	}
	return account, token
}

// raw sends a request byte by byte as it is, which net/http would not do, and
// returns the status and the rest of the answer as text.
func raw(t *testing.T, account *url.URL, token, method, path, headers, body string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", account.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lines := []string{method + " " + account.Path + path + " HTTP/1.1", "Host: " + account.Host, "Connection: close"}
	if !strings.Contains(headers, "X-Auth-Token") {
		lines = append(lines, "X-Auth-Token: "+token)
	}
	if method == "PUT" && headers != "Content-Length: " || method == "POST" {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	if headers != "" && headers != "Content-Length: " {
		lines = append(lines, strings.Split(headers, "\n")...)
	}
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	resp.Header.Write(&text)
	if resp.ContentLength >= 0 {
		fmt.Fprintf(&text, "Content-Length: %d\n", resp.ContentLength)
	}
	io.Copy(&text, resp.Body)
	return resp.StatusCode, text.String()
}
