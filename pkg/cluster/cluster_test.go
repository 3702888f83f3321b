package cluster_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	storage "k8s.io/client-go/kubernetes/typed/storage/v1"
	"k8s.io/client-go/rest"

	"github.com/swiftblock/csi-swiftblock/pkg/cluster"
	"github.com/swiftblock/csi-swiftblock/test/kube/apiserver"
)

// A node is given up when an administrator says so, by removing it or by the taint
// that promises it is off; not by any other taint.
func TestNodes(t *testing.T) {
	ctx, server := t.Context(), apiserver.Start(t)
	client, err := typed.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	for name, taint := range map[string]string{"living": "", "silent": corev1.TaintNodeUnreachable, "off": corev1.TaintNodeOutOfService} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if taint != "" {
			node.Spec.Taints = []corev1.Taint{{Key: taint, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute}}
		}
		if _, err := client.Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	nodes, err := cluster.NewNodes(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct{ known, givenUp bool }{
		"living": {true, false}, "silent": {true, false}, "off": {true, true}, "removed": {false, true},
	} {
		known, err := nodes.Known(ctx, name)
		if err != nil || known != want.known {
			t.Errorf("Known(%s) = %v, %v; want %v", name, known, err, want.known)
		}
		givenUp, err := nodes.GivenUp(ctx, name)
		if err != nil || givenUp != want.givenUp {
			t.Errorf("GivenUp(%s) = %v, %v; want %v", name, givenUp, err, want.givenUp)
		}
	}
	server.Stop()
	if _, err := nodes.Known(ctx, "living"); err == nil {
		t.Error("Known without an API server: no error")
	}
	if givenUp, err := nodes.GivenUp(ctx, "removed"); err == nil || givenUp {
		t.Errorf("GivenUp without an API server = %v, %v; want an error", givenUp, err)
	}
}

// Of two that want to lead one does; the other takes over when it ends. What the
// leader's work fails with ends the leading.
func TestOneLeads(t *testing.T) {
	server := apiserver.Start(t)
	var leading atomic.Int32
	started := make(chan string, 2)
	lead := func(ctx context.Context, holder string) error {
		lease := cluster.Lease{Namespace: "default", Name: "test", Holder: holder}
		return cluster.Lead(ctx, server.Config(), lease, func(ctx context.Context) error {
			if n := leading.Add(1); n != 1 {
				t.Errorf("%d lead", n)
			}
			started <- holder
			<-ctx.Done()
			leading.Add(-1)
			return nil
		})
	}
	first, stopFirst := context.WithCancel(t.Context())
	second, stopSecond := context.WithCancel(t.Context())
	defer stopFirst()
	defer stopSecond()
	ended := make(chan error, 2)
	go func() { ended <- lead(first, "first") }()
	expectLeader(t, started, "first")
	go func() { ended <- lead(second, "second") }()
	select {
	case who := <-started:
		t.Fatalf("%s leads, too", who)
	case <-time.After(5 * time.Second): // longer than it takes to ask for the lease
	}
	stopFirst()
	if err := <-ended; err != nil {
		t.Errorf("the first: %v", err)
	}
	expectLeader(t, started, "second")
	stopSecond()
	if err := <-ended; err != nil {
		t.Errorf("the second: %v", err)
	}
	broken := errors.New("broken")
	lease := cluster.Lease{Namespace: "default", Name: "test", Holder: "third"}
	if err := cluster.Lead(t.Context(), server.Config(), lease, func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("the third: %v, want %v", err, broken)
	}
}

func expectLeader(t *testing.T, started <-chan string, want string) {
	t.Helper()
	select {
	case who := <-started:
		if who != want {
			t.Fatalf("%s leads, want %s", who, want)
		}
	case <-time.After(time.Minute):
		t.Fatal("nobody leads")
	}
}

func TestVault(t *testing.T) {
	vault, err := cluster.NewVault(apiserver.Start(t).Config(), "default")
	if err != nil {
		t.Fatal(err)
	}
	const name = "0123456789abcdef0123456789abcdef"
	if _, err := vault.Load(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of nothing: %v, want ErrNotExist", err)
	}
	for _, want := range []map[string]string{{"ST_USER": "a", "ST_KEY": "1"}, {"ST_USER": "a", "ST_KEY": "2"}, {"ST_USER": "a"}} {
		if err := vault.Save(name, want); err != nil {
			t.Fatal(err)
		}
		if got, err := vault.Load(name); err != nil || !maps.Equal(got, want) {
			t.Errorf("Load = %v, %v; want %v", got, err, want)
		}
	}
	for range 2 { // the second time there is nothing
		if err := vault.Remove(name); err != nil {
			t.Errorf("Remove: %v", err)
		}
		if _, err := vault.Load(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load of what was removed: %v, want ErrNotExist", err)
		}
	}
}

// A 404 that the API server did not mean so, of a proxy before it for instance, is no word on
// what is there: a node would be given up, and its volumes taken from it.
func TestAnyAnswerIsNoAbsence(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	config := &rest.Config{Host: server.URL}
	nodes, err := cluster.NewNodes(config)
	if err != nil {
		t.Fatal(err)
	}
	if gone, err := nodes.GivenUp(t.Context(), "worker-1"); gone || err == nil {
		t.Errorf("given up: %v, %v", gone, err)
	}
	if _, err := nodes.Known(t.Context(), "worker-1"); err == nil {
		t.Error("whether the node is known was answered")
	}
	vault, err := cluster.NewVault(config, "default")
	if err != nil {
		t.Fatal(err)
	}
	const name = "0123456789abcdef0123456789abcdef"
	if _, err := vault.Load(name); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load: %v", err)
	}
	if err := vault.Remove(name); err == nil {
		t.Error("Remove succeeded")
	}
}

// A node loses the start-up taint when the driver is registered there, and nothing else
// of it changes.
func TestStartup(t *testing.T) {
	const ours, driver = "csi.swiftblock.dev/agent-not-ready", "csi.swiftblock.dev"
	ctx, server := t.Context(), apiserver.Start(t)
	nodes, err := typed.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	csi, err := storage.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	another := corev1.Taint{Key: "example.test/another", Effect: corev1.TaintEffectNoSchedule}
	for name, registered := range map[string]string{"ready": driver, "other": "csi.example.test", "none": "", "new": "-"} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		node.Spec.Taints = []corev1.Taint{{Key: ours, Effect: corev1.TaintEffectNoExecute}, another, {Key: ours, Effect: corev1.TaintEffectNoSchedule}}
		if _, err := nodes.Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if registered == "-" {
			continue // kubelet has not made its CSINode yet
		}
		of := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if registered != "" {
			of.Spec.Drivers = []storagev1.CSINodeDriver{{Name: registered, NodeID: name}}
		}
		if _, err := csi.CSINodes().Create(ctx, of, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	startup, err := cluster.NewStartup(server.Config(), driver, ours)
	if err != nil {
		t.Fatal(err)
	}
	var ready []string
	for end := time.Now().Add(time.Minute); len(ready) == 0 && time.Now().Before(end); { // a cache answers
		if ready, err = startup.Round(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if len(ready) != 1 || ready[0] != "ready" {
		t.Errorf("ready: %v", ready)
	}
	list, err := nodes.Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range list.Items {
		has := map[string]int{}
		for _, taint := range node.Spec.Taints { // the API server added one of its own
			has[taint.Key]++
		}
		want := 2
		if node.Name == "ready" {
			want = 0
		}
		if has[ours] != want || has[another.Key] != 1 {
			t.Errorf("%s has %v", node.Name, node.Spec.Taints)
		}
	}
	server.Stop()
	if _, err := startup.Round(ctx); err == nil {
		t.Error("without an API server: no error")
	}
}
