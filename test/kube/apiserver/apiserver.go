// Package apiserver starts an etcd and a Kubernetes API server for tests: on
// loopback, without nodes and without anything that runs on them.
package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// Programs names the environment variable with the directory of etcd and
// kube-apiserver, which test/kube/build.sh prints.
const Programs = "SWIFTBLOCK_KUBE"

// token of the one user, who may do everything.
const token = "swiftblock-test"

// startWait is how long a server may take until it is ready: 15 s on two idle
// cores.
const startWait = 3 * time.Minute

// Server is an API server with an etcd of its own.
type Server struct {
	t        testing.TB
	dir      string
	programs string
	url      string // of the API server
	etcdURL  string
	running  []*exec.Cmd // etcd first
}

// Start starts a server that ends with the test. It skips the test where the
// programs are not named.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir(), programs: os.Getenv(Programs)}
	if s.programs == "" {
		t.Skip("no etcd and kube-apiserver: " + Programs + " is not set (test/kube/build.sh etcd kube-apiserver prints it)")
	}
	s.write("tokens.csv", []byte(token+",admin,1,system:masters\n"))
	s.write("accounts.key", accountsKey(t))
	s.url = "https://" + freeAddress(t)
	s.etcdURL = "http://" + freeAddress(t)
	t.Cleanup(s.Stop)
	s.Resume()
	return s
}

// Config leads to the server.
func (s *Server) Config() *rest.Config {
	return &rest.Config{
		Host:            s.url,
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: s.path("apiserver.crt")},
	}
}

// Resume starts a server that was stopped, and waits until it is ready.
func (s *Server) Resume() {
	s.t.Helper()
	peers := "http://" + freeAddress(s.t)
	s.run("etcd", "--name=e", "--data-dir="+s.path("etcd"), "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls="+s.etcdURL, "--advertise-client-urls="+s.etcdURL,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=e="+peers)
	_, port, _ := net.SplitHostPort(s.url[len("https://"):])
	s.run("kube-apiserver", "--etcd-servers="+s.etcdURL, "--bind-address=127.0.0.1", "--secure-port="+port,
		"--cert-dir="+s.dir, "--token-auth-file="+s.path("tokens.csv"), "--authorization-mode=AlwaysAllow", "--allow-privileged",
		"--service-account-issuer=https://localhost", "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-key-file="+s.path("accounts.key"), "--service-account-signing-key-file="+s.path("accounts.key"))
	s.await("the API server", s.ready)
}

// await waits until check succeeds.
func (s *Server) await(what string, check func() error) {
	s.t.Helper()
	for end := time.Now().Add(startWait); ; time.Sleep(100 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(s.path("kube-apiserver.log"))
			s.t.Fatalf("%s: %v\n%s", what, err, log[max(0, len(log)-4096):])
		}
	}
}

func (s *Server) ready() error {
	client, err := s.client()
	if err != nil {
		return err // the certificate is not there yet
	}
	return client.Get().AbsPath("/readyz").Do(s.t.Context()).Error()
}

func (s *Server) client() (rest.Interface, error) {
	config := s.Config()
	config.GroupVersion = &schema.GroupVersion{}
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	return rest.RESTClientFor(config)
}

const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

// Define creates the custom resource definitions of the YAML files that a pattern fits, and
// waits until they are served. A field that no definition has is an error.
func (s *Server) Define(pattern string) {
	s.t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		s.t.Fatalf("no definitions in %s: %v", pattern, err)
	}
	client, err := s.client()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		var crd struct {
			Metadata metav1.ObjectMeta
			Spec     struct {
				Group    string
				Names    struct{ Plural string }
				Versions []struct{ Name string }
			}
		}
		body, err := yaml.YAMLToJSON(text)
		if err == nil {
			err = json.Unmarshal(body, &crd)
		}
		if err == nil {
			err = client.Post().AbsPath(definitions).Param("fieldValidation", "Strict").Body(body).Do(s.t.Context()).Error()
		}
		if err != nil {
			s.t.Fatalf("%s: %v", file, err)
		}
		served := "/apis/" + crd.Spec.Group + "/" + crd.Spec.Versions[0].Name + "/" + crd.Spec.Names.Plural
		s.await(served, func() error { return client.Get().AbsPath(served).Do(s.t.Context()).Error() })
	}
}

// Undefine removes a definition, and with it all objects.
func (s *Server) Undefine(name string) {
	s.t.Helper()
	client, err := s.client()
	if err == nil {
		err = client.Delete().AbsPath(definitions, name).Do(s.t.Context()).Error()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.await("the end of "+name, func() error {
		if err := client.Get().AbsPath(definitions, name).Do(s.t.Context()).Error(); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is still there: %w", err)
		}
		return nil
	})
}

// Stop kills both processes, the API server first. What they stored stays.
func (s *Server) Stop() {
	for len(s.running) > 0 {
		last := s.running[len(s.running)-1]
		s.running = s.running[:len(s.running)-1]
		last.Process.Kill()
		last.Wait()
	}
}

// BackUp copies what etcd stored, for Restore. The server must be stopped.
func (s *Server) BackUp() {
	s.t.Helper()
	s.replace(s.path("backup"), s.path("etcd"))
}

// Restore puts back what BackUp copied. The server must be stopped.
func (s *Server) Restore() {
	s.t.Helper()
	s.replace(s.path("etcd"), s.path("backup"))
}

func (s *Server) replace(to, from string) {
	s.t.Helper()
	if err := os.RemoveAll(to); err != nil {
		s.t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		s.t.Fatal(err)
	}
}

// run starts a program that dies with this process.
func (s *Server) run(name string, args ...string) {
	s.t.Helper()
	log, err := os.OpenFile(s.path(name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(filepath.Join(s.programs, name), args...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.running = append(s.running, c)
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) write(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// accountsKey makes the key that the API server insists on to sign tokens with.
func accountsKey(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// freeAddress is one that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
