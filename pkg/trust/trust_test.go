package trust_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/trust"
)

// service answers whoever is allowed to ask: it stands for any of ours.
type service struct {
	grpc_health_v1.UnimplementedHealthServer
	only trust.Identity
}

func (s service) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{}, trust.Caller(ctx, s.only)
}

// serve answers only calls of one identity, and returns the address.
func serve(t *testing.T, network string, only trust.Identity, o ...grpc.ServerOption) string {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(o...)
	grpc_health_v1.RegisterHealthServer(s, service{only: only})
	go s.Serve(l)
	t.Cleanup(s.Stop)
	if network == "unix" {
		return "unix://" + address
	}
	return l.Addr().String()
}

func dial(t *testing.T, address string, c credentials.TransportCredentials) grpc_health_v1.HealthClient {
	t.Helper()
	return grpc_health_v1.NewHealthClient(connect(t, address, c))
}

func connect(t *testing.T, address string, c credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func ask(c grpc_health_v1.HealthClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

func authority(t *testing.T) *trust.Authority {
	t.Helper()
	a, err := trust.NewAuthority(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// issue returns a directory with a certificate.
func issue(t *testing.T, a *trust.Authority, id trust.Identity, valid time.Duration) string {
	t.Helper()
	dir := t.TempDir()
	if err := a.Issue(dir, id, valid); err != nil {
		t.Fatal(err)
	}
	return dir
}

// reports collects what is reported.
type reports struct {
	mu  sync.Mutex
	all []string
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, err.Error())
}

func (r *reports) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.all, "\n")
}

func open(t *testing.T, dir string, r *reports) *trust.Keys {
	t.Helper()
	keys, err := trust.Open(dir, r.add)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestOnlyTheRightPeer(t *testing.T) {
	ours, theirs := authority(t), authority(t)
	controller := open(t, issue(t, ours, trust.Controller, time.Hour), &reports{})
	short := expired(t, ours)
	var refused reports
	node := open(t, issue(t, ours, trust.Node("a"), time.Hour), &refused)
	all := open(t, issue(t, ours, trust.Node("*"), time.Hour), &reports{})
	stranger := open(t, issue(t, theirs, trust.Controller, time.Hour), &reports{})
	exports := serve(t, "tcp", trust.Controller, grpc.Creds(node.Server())) // on node a
	openings := serve(t, "tcp", trust.Node("a"), grpc.Creds(controller.Server()))
	plain := serve(t, "tcp", trust.Controller)
	for _, c := range []struct {
		name    string
		address string
		as      credentials.TransportCredentials
		code    codes.Code
		says    string // by the caller's error; it may miss the alert of a server that hangs up
		reports string // by the server
	}{
		{"the controller asks a node", exports, controller.Client(trust.Node("a"), nil), codes.OK, "", ""},
		{"the node asks the controller", openings, node.Client(trust.Controller, nil), codes.OK, "", ""},
		{"one certificate for all nodes", openings, all.Client(trust.Controller, nil), codes.OK, "", ""},
		{
			"a node asks a node", exports, node.Client(trust.Node("a"), nil),
			codes.PermissionDenied, "only controller.csi.swiftblock.dev may do this: x509: certificate is valid for a.node.", "",
		},
		{"another node", exports, controller.Client(trust.Node("b"), nil), codes.Unavailable, "valid for a.node.csi.swiftblock.dev, not b.node", "bad certificate"},
		{"another node's word", openings, open(t, issue(t, ours, trust.Node("b"), time.Hour), &reports{}).Client(trust.Controller, nil), codes.PermissionDenied, "only a.node", ""},
		{"another authority's client", exports, withRoots(t, ours, theirs).Client(trust.Node("a"), nil), codes.Unavailable, "", "unknown authority"},
		{"another authority's server", exports, stranger.Client(trust.Node("a"), nil), codes.Unavailable, "signed by unknown authority", "bad certificate"},
		{"expired", exports, short.Client(trust.Node("a"), nil), codes.Unavailable, "", "certificate has expired"},
		{"no certificate", exports, credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}), codes.Unavailable, "", "didn't provide a certificate"},
		{"an old protocol", exports, credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}), codes.Unavailable, "protocol version not supported", "unsupported versions"},
		{"no TLS at all", exports, insecure.NewCredentials(), codes.Unavailable, "", "first record does not look like a TLS handshake"},
		{"no TLS on either side", plain, insecure.NewCredentials(), codes.Unauthenticated, "must show a certificate", ""},
		{"a unix socket", serve(t, "unix", trust.Controller), insecure.NewCredentials(), codes.OK, "", ""},
	} {
		before := len(refused.String())
		conn := connect(t, c.address, c.as)
		err := ask(grpc_health_v1.NewHealthClient(conn))
		conn.Close() // else it tries again, and is reported again, while others do
		if status.Code(err) != c.code || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v, want %v that says %q", c.name, err, c.code, c.says)
		}
		said := refused.String()[before:]
		for deadline := time.Now().Add(30 * time.Second); !strings.Contains(said, c.reports) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			said = refused.String()[before:] // the caller may hear of it first
		}
		if !strings.Contains(said, c.reports) || c.reports == "" && said != "" {
			t.Errorf("%s: the server reports %q, want %q", c.name, said, c.reports)
		}
	}
}

// expired is a certificate that was opened when it was valid, which it is not any more.
func expired(t *testing.T, a *trust.Authority) *trust.Keys {
	t.Helper()
	for valid := 2 * time.Second; ; valid *= 2 { // a busy machine may open it too late
		keys, err := trust.Open(issue(t, a, trust.Controller, valid), (&reports{}).add)
		if err == nil {
			time.Sleep(time.Until(keys.End()) + 100*time.Millisecond)
			return keys
		}
		if valid > time.Minute {
			t.Fatal(err)
		}
	}
}

// withRoots is a certificate of one authority whose holder trusts another.
func withRoots(t *testing.T, roots, issuer *trust.Authority) *trust.Keys {
	t.Helper()
	dir := issue(t, issuer, trust.Controller, time.Hour)
	copyFile(t, filepath.Join(issue(t, roots, trust.Controller, time.Hour), "ca.crt"), filepath.Join(dir, "ca.crt"))
	return open(t, dir, &reports{})
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// mounted is a directory as Kubernetes mounts a Secret: links through a link that is
// replaced.
type mounted struct {
	dir string
	n   int
}

func (m *mounted) swap(t *testing.T, files string, authorities ...string) {
	t.Helper()
	m.n++
	version := fmt.Sprintf("..%d", m.n)
	if err := os.CopyFS(filepath.Join(m.dir, version), os.DirFS(files)); err != nil {
		t.Fatal(err)
	}
	var bundle []byte
	for _, a := range authorities {
		b, err := os.ReadFile(filepath.Join(a, "ca.crt"))
		if err != nil {
			t.Fatal(err)
		}
		bundle = append(bundle, b...)
	}
	if err := os.WriteFile(filepath.Join(m.dir, version, "ca.crt"), bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(m.dir, "..new")
	if err := os.Symlink(version, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(m.dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		if err := os.Symlink("..data/"+name, filepath.Join(m.dir, name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
}

// Certificates and the authority itself change under a stream of calls, over
// connections that are made anew all the time; none is lost.
func TestRotationLosesNoCall(t *testing.T) {
	server, client := &mounted{dir: t.TempDir()}, &mounted{dir: t.TempDir()}
	old, next := authority(t), authority(t)
	keys := func(a *trust.Authority) (s, c string) {
		return issue(t, a, trust.Node("a"), time.Hour), issue(t, a, trust.Controller, time.Hour)
	}
	s1, c1 := keys(old)
	server.swap(t, s1, s1)
	client.swap(t, c1, c1)
	var said reports
	address := serve(t, "tcp", trust.Controller, grpc.Creds(open(t, server.dir, &said).Server()),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 20 * time.Millisecond}))
	stub := dial(t, address, open(t, client.dir, &said).Client(trust.Node("a"), nil))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var calls [4]atomic.Int64
	for i := range calls {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := ask(stub); err != nil {
					t.Errorf("call %d: %v", calls[i].Load(), err)
					return
				}
				calls[i].Add(1)
			}
		})
	}
	settle := func() { // for 150 ms, and until each has made two calls
		var before [len(calls)]int64
		for i := range calls {
			before[i] = calls[i].Load()
		}
		time.Sleep(150 * time.Millisecond)
		for i := range calls {
			for limit := time.Now().Add(time.Minute); calls[i].Load() < before[i]+2 && !t.Failed(); time.Sleep(time.Millisecond) {
				if time.Now().After(limit) {
					t.Error("calls do not go on")
				}
			}
		}
	}
	settle()
	s2, c2 := keys(old) // new certificates
	server.swap(t, s2, s2)
	settle()
	client.swap(t, c2, c2)
	settle()
	s3, c3 := keys(next) // a new authority: first it is trusted, then it is used
	server.swap(t, s2, s2, s3)
	client.swap(t, c2, c2, c3)
	settle()
	server.swap(t, s3, s2, s3)
	settle()
	client.swap(t, c3, c2, c3)
	settle()
	server.swap(t, s3, s3)
	client.swap(t, c3, c3)
	settle()
	close(stop)
	wg.Wait()
	if said.String() != "" {
		t.Errorf("reported: %s", &said)
	}
}

func TestBrokenKeysKeepTheOld(t *testing.T) {
	a := authority(t)
	dir := issue(t, a, trust.Node("a"), time.Hour)
	var said reports
	address := serve(t, "tcp", trust.Controller, grpc.Creds(open(t, dir, &said).Server()))
	controller := open(t, issue(t, a, trust.Controller, time.Hour), &reports{})
	whole := t.TempDir()
	for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		copyFile(t, filepath.Join(dir, name), filepath.Join(whole, name))
	}
	for _, c := range []struct{ file, from, want string }{
		{"tls.key", filepath.Join(issue(t, a, trust.Node("a"), time.Hour), "tls.key"), "does not match"},
		{"tls.crt", os.DevNull, "failed to find any PEM data"},
		{"ca.crt", os.DevNull, "holds no PEM certificate"},
		{"ca.crt", "", "no such file"},
	} {
		if c.from == "" {
			os.Remove(filepath.Join(dir, c.file))
		} else {
			copyFile(t, c.from, filepath.Join(dir, c.file))
		}
		before := len(said.String())
		for range 3 {
			if err := ask(dial(t, address, controller.Client(trust.Node("a"), nil))); err != nil {
				t.Errorf("%s: %v", c.want, err)
			}
		}
		if text := said.String()[before:]; strings.Count(text, "the old ones are") != 1 || !strings.Contains(text, c.want) {
			t.Errorf("reported %q, want once %q", text, c.want)
		}
		copyFile(t, filepath.Join(whole, c.file), filepath.Join(dir, c.file))
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	a := authority(t)
	for _, c := range []struct{ dir, want string }{
		{t.TempDir(), "tls.crt: no such file"},
		{issue(t, a, trust.Controller, -time.Second), "ended at"},
		{issue(t, a, "else.example", time.Hour), "want controller.csi.swiftblock.dev or NODE.node"},
	} {
		if _, err := trust.Open(c.dir, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func TestAuthorityIsKept(t *testing.T) {
	dir := t.TempDir()
	if err := authority(t).Save(dir); err != nil {
		t.Fatal(err)
	}
	first, err := trust.LoadAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := trust.LoadAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	address := serve(t, "tcp", trust.Controller, grpc.Creds(open(t, issue(t, first, trust.Node("a"), time.Hour), &reports{}).Server()))
	if err := ask(dial(t, address, open(t, issue(t, again, trust.Controller, time.Hour), &reports{}).Client(trust.Node("a"), nil))); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Join(dir, "tls.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v, %v", info.Mode(), err)
	}
}

// One certificate does for all nodes, whatever they are called.
func TestOneCertificateForAllNodes(t *testing.T) {
	a := authority(t)
	all := open(t, issue(t, a, trust.Node("*"), time.Hour), &reports{})
	for _, node := range []string{"worker-1", "ip-10-0-0-1.ec2.internal", "Rack_1.example"} {
		of := trust.Node(node)
		c := dial(t, serve(t, "tcp", of, grpc.Creds(all.Server())), all.Client(of, nil))
		if err := ask(c); err != nil {
			t.Errorf("%s: %v", node, err)
		}
	}
	if left := time.Until(all.End()); left > time.Hour || left < 50*time.Minute {
		t.Errorf("it ends in %v", left)
	}
	if trust.Node("a.b") == trust.Node("a_b") {
		t.Error("two nodes have one identity")
	}
}
