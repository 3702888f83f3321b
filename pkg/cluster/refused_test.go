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

// A node that may not be changed keeps no other from its pods.
func TestStartupBesideANodeThatIsRefused(t *testing.T) {
	const ours, driver = "csi.swiftblock.dev/agent-not-ready", "csi.swiftblock.dev"
	var list corev1.NodeList
	for _, name := range []string{"a", "b"} {
		list.Items = append(list.Items, corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "1"},
			Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: ours, Effect: corev1.TaintEffectNoSchedule}}},
		})
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any = list
		switch {
		case r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/a"):
			w.WriteHeader(http.StatusForbidden)
			return
		case r.Method == http.MethodPatch:
			answer = list.Items[1]
		case strings.Contains(r.URL.Path, "/csinodes/"):
			answer = storagev1.CSINode{Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: driver}}}}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer api.Close()
	startup, err := cluster.NewStartup(&rest.Config{Host: api.URL}, driver, ours)
	if err != nil {
		t.Fatal(err)
	}
	ready, err := startup.Round(t.Context())
	if len(ready) != 1 || ready[0] != "b" {
		t.Errorf("ready: %v", ready)
	}
	if err == nil || !strings.Contains(err.Error(), "node a") {
		t.Errorf("error %v, want it to name the node", err)
	}
}
