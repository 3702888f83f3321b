package cluster_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/swiftblock/csi-swiftblock/pkg/cluster"
)

// What decides is asked as of now. An API server's cache may still know a node as given up
// that is back, with volumes open; not know another yet; and have a secret and a driver's
// registration that are no more.
func TestReadsAreAsOfNow(t *testing.T) {
	const (
		ours, driver = "csi.swiftblock.dev/agent-not-ready", "csi.swiftblock.dev"
		account      = "0123456789abcdef0123456789abcdef"
		nodes        = "/api/v1/nodes"
	)
	node := func(name, taint string) corev1.Node {
		return corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: taint, Effect: corev1.TaintEffectNoSchedule}}},
		}
	}
	secret := func(key string) corev1.Secret { return corev1.Secret{Data: map[string][]byte{"ST_KEY": []byte(key)}} }
	objects := map[string]struct{ now, cached any }{ // nil: there is none
		nodes + "/back": {node("back", ours), node("back", corev1.TaintNodeOutOfService)},
		nodes + "/new":  {node("new", ours), nil},
		"/api/v1/namespaces/default/secrets/csi-swiftblock-account-" + account: {secret("now"), secret("once")},
		"/apis/storage.k8s.io/v1/csinodes/back":                                {nil, storagev1.CSINode{Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: driver}}}}},
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		object, known := objects[r.URL.Path]
		answer := object.now
		switch {
		case r.Method == http.MethodGet && r.URL.Path == nodes:
			// May be cached: a taint is taken only from a node that is as it was listed.
			answer = corev1.NodeList{Items: []corev1.Node{node("back", ours)}}
		case r.Method != http.MethodGet || !known:
			t.Errorf("%s %s", r.Method, r.URL)
		case strings.Contains(r.URL.RawQuery, "resourceVersion"):
			t.Errorf("%s %s may be answered from a cache", r.Method, r.URL)
			answer = object.cached
		}
		w.Header().Set("Content-Type", "application/json")
		if answer == nil {
			w.WriteHeader(http.StatusNotFound)
			answer = metav1.Status{
				TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
				Status:   metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound,
			}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer api.Close()
	config := &rest.Config{Host: api.URL}
	members, err := cluster.NewNodes(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"back", "new"} {
		if known, err := members.Known(t.Context(), name); err != nil || !known {
			t.Errorf("Known(%s) = %v, %v", name, known, err)
		}
		if givenUp, err := members.GivenUp(t.Context(), name); err != nil || givenUp {
			t.Errorf("GivenUp(%s) = %v, %v", name, givenUp, err)
		}
	}
	vault, err := cluster.NewVault(config, "default")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := vault.Load(account); err != nil || got["ST_KEY"] != "now" {
		t.Errorf("Load = %v, %v", got, err)
	}
	startup, err := cluster.NewStartup(config, driver, ours)
	if err != nil {
		t.Fatal(err)
	}
	if ready, err := startup.Round(t.Context()); err != nil || len(ready) > 0 {
		t.Errorf("ready: %v, %v", ready, err)
	}
}
