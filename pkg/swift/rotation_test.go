package swift_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
)

// vault is an embedded server whose account has several keys, each with tokens of
// its own, which end with it.
type vault struct {
	inner *embedded.Handler
	mu    sync.Mutex
	keys  map[string]bool
	used  map[string]bool // keys that somebody logged in with
	round string          // of the tokens that are good
	count int             // of log-ins asked for
}

func newVault(t *testing.T, keys ...string) (*vault, *httptest.Server) {
	t.Helper()
	inner, err := embedded.Open(t.TempDir(), embedded.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close() })
	v := &vault{inner: inner, keys: map[string]bool{}, used: map[string]bool{}}
	v.accept(keys...)
	s := httptest.NewServer(v)
	t.Cleanup(s.Close)
	return v, s
}

// accept makes keys the only ones.
func (v *vault) accept(keys ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.keys)
	for _, k := range keys {
		v.keys[k] = true
	}
}

// endTokens makes everybody log in again.
func (v *vault) endTokens() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.round += "x"
}

func (v *vault) wasUsed(key string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.used[key]
}

// asked is how many log-ins were asked for.
func (v *vault) asked() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count
}

func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	logIn := strings.HasPrefix(r.URL.Path, "/auth")
	field := "X-Auth-Token"
	if logIn {
		field = "X-Auth-Key"
	}
	key, token, _ := strings.Cut(r.Header.Get(field), "|")
	round, token, _ := strings.Cut(token, "|")
	v.mu.Lock()
	known := v.keys[key] && (logIn || round == v.round)
	round = v.round
	if logIn {
		v.count++
	}
	v.used[key] = v.used[key] || logIn && known
	v.mu.Unlock()
	switch {
	case !known:
		http.Error(w, "", http.StatusUnauthorized)
	case logIn:
		answer := httptest.NewRecorder()
		r.Header.Set(field, v.inner.Key())
		v.inner.ServeHTTP(answer, r)
		w.Header().Set("X-Storage-Url", answer.Header().Get("X-Storage-Url"))
		w.Header().Set("X-Auth-Token", key+"|"+round+"|"+answer.Header().Get("X-Auth-Token"))
	default:
		r.Header.Set(field, token)
		v.inner.ServeHTTP(w, r)
	}
}

// secret is a directory as Kubernetes mounts a Secret: files are links into a
// directory that a link names, and that link is replaced.
type secret struct {
	dir string
	n   int
}

func (s *secret) path() string { return filepath.Join(s.dir, "clouds.yaml") }

func (s *secret) write(t *testing.T, content string) {
	t.Helper()
	s.n++
	version := fmt.Sprintf("..version-%d", s.n)
	link := filepath.Join(s.dir, "..data_tmp")
	for _, err := range []error{
		os.Mkdir(filepath.Join(s.dir, version), 0o700),
		os.WriteFile(filepath.Join(s.dir, version, "clouds.yaml"), []byte(content), 0o600),
		os.Symlink(version, link),
		os.Rename(link, filepath.Join(s.dir, "..data")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if s.n == 1 {
		if err := os.Symlink("..data/clouds.yaml", s.path()); err != nil {
			t.Fatal(err)
		}
	}
}

func cloudsYAML(server *httptest.Server, user, key string) string {
	return fmt.Sprintf("clouds: {c: {auth_type: v1password, auth: {auth_url: %q, username: %q, password: %q}}}",
		server.URL+"/auth/v1.0", user, key)
}

// watched is a client of v that follows a file, under a stream of calls.
func watched(t *testing.T, v *vault, server *httptest.Server) (file *secret, write func(string), reports chan error) {
	t.Helper()
	file = &secret{dir: t.TempDir()}
	write = func(key string) { file.write(t, cloudsYAML(server, v.inner.User(), key)) }
	write("first")
	load := func() (swift.Credentials, error) { return swift.LoadCredentials(file.path(), "c") }
	cred, err := load()
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(t, cred, swift.Options{Reload: load})
	if err := client.CreateContainer(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	reports = make(chan error, 100)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { client.Watch(t.Context(), 20*time.Millisecond, func(err error) { reports <- err }) })
	for i := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := client.Put(context.Background(), container, fmt.Sprint(i), []byte(fmt.Sprint(n)), swift.PutOptions{}); err != nil {
					t.Errorf("call %d: %v", n, err)
					return
				}
			}
		})
	}
	t.Cleanup(func() { wg.Wait() }) // after Watch's context has ended
	t.Cleanup(func() { close(stop) })
	return file, write, reports
}

func next(t *testing.T, reports chan error) error {
	t.Helper()
	select {
	case err := <-reports:
		return err
	case <-time.After(unhurried):
		t.Fatal("no report")
		return nil
	}
}

func TestCredentialsRotateUnderCalls(t *testing.T) {
	v, server := newVault(t, "first")
	_, write, reports := watched(t, v, server)
	for i, key := range []string{"second", "third", "fourth"} {
		old := []string{"first", "second", "third"}[i]
		v.accept(old, key)
		write(key)
		if err := next(t, reports); err != nil {
			t.Fatal(err)
		}
		v.accept(key)
		time.Sleep(50 * time.Millisecond)
	}
}

// The old ones ended before anybody looked at the file: the refusal makes the
// client look.
func TestCredentialsRotateAtOnce(t *testing.T) {
	v, server := newVault(t, "first")
	_, write, reports := watched(t, v, server)
	v.mu.Lock() // nobody is answered in between
	write("second")
	v.keys = map[string]bool{"second": true}
	v.mu.Unlock()
	for !v.wasUsed("second") {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-reports:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(100 * time.Millisecond):
	}
}

func TestBrokenCredentialsKeepTheOld(t *testing.T) {
	v, server := newVault(t, "first")
	file, write, reports := watched(t, v, server)
	for _, c := range []struct{ content, want string }{
		{"SECRET\n\tx", "not a clouds.yaml"},
		{"clouds: {c: {auth_type: v1password, auth: {auth_url: x, username: u, password: SECRET}}}", "authentication URL"},
		{cloudsYAML(server, v.inner.User(), "SECRET"), "credentials refused"},
	} {
		file.write(t, c.content)
		err := next(t, reports)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%v, want it to say %q", err, c.want)
		}
		v.endTokens()
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // several periods
	if len(reports) != 0 {
		t.Errorf("said again: %v", <-reports)
	}
	write("first")
	time.Sleep(60 * time.Millisecond)
	v.accept("first", "second")
	write("second")
	if err := next(t, reports); err != nil {
		t.Error(err)
	}
}
