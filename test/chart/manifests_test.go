// Package chart_test shows the manifests to a Kubernetes API server.
package chart_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/swiftblock/csi-swiftblock/test/kube/apiserver"
)

const (
	top      = "../../"
	manifest = top + "deploy/kubernetes/csi-swiftblock.yaml"
)

// namespaces are those that somebody makes before manifests are applied.
var namespaces = []string{"csi-swiftblock", "storage"}

// undefined are groups of kinds that no API server knows by itself, and why nobody here
// defines them.
var undefined = map[string]string{"monitoring.coreos.com": "the Prometheus operator's definitions are not here"}

// judge is an API server that says what it would make of a manifest.
type judge struct {
	client    rest.Interface
	discovery *discovery.DiscoveryClient
	warnings  []string
}

func newJudge(t *testing.T) *judge {
	server := apiserver.Start(t)
	server.Define(top + "charts/csi-swiftblock/crds/*.yaml")
	server.Define(snapshotDefinitions(t))
	j := &judge{}
	config := server.Config()
	config.QPS, config.WarningHandler = -1, j
	core, err := typed.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	j.client = core.RESTClient()
	if j.discovery, err = discovery.NewDiscoveryClientForConfig(config); err != nil {
		t.Fatal(err)
	}
	for _, name := range namespaces {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := core.Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// Which a controller makes elsewhere, and without which no pod is created.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := core.ServiceAccounts(metav1.NamespaceDefault).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return j
}

// HandleWarningHeader implements [rest.WarningHandler].
func (j *judge) HandleWarningHeader(_ int, _, text string) {
	// Said of each headless Service, as one without an affinity is given "None".
	if text != "spec.SessionAffinity is ignored for headless services" {
		j.warnings = append(j.warnings, text)
	}
}

// snapshotDefinitions is a pattern of files: those of the snapshot controller, of the release
// that make e2e runs.
func snapshotDefinitions(t *testing.T) string {
	t.Helper()
	const name = "github.com/kubernetes-csi/external-snapshotter/client/v8"
	out, err := exec.CommandContext(t.Context(), "go", "-C", top+"test/kube/tools/csi", "mod", "download", "-json", name).Output()
	var module struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(out, &module)
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return module.Dir + "/config/crd/snapshot.*.yaml"
}

// object is what a manifest says that it is.
type object struct {
	metav1.TypeMeta
	Metadata metav1.ObjectMeta
}

func (o object) String() string { return o.Kind + " " + o.Metadata.Name }

var errUndefined = errors.New("the API server knows no such kind")

// create creates the object of a manifest in all but fact. Unknown fields and those that
// stand there twice are errors, and so are the API server's warnings.
func (j *judge) create(t *testing.T, o object, text []byte) error {
	collection, err := j.collection(o)
	if err != nil {
		return err
	}
	j.warnings = nil
	err = j.client.Post().AbsPath(collection).Param("dryRun", "All").Param("fieldValidation", "Strict").
		SetHeader("Content-Type", "application/yaml").Body(text).Do(t.Context()).Error()
	if err == nil && len(j.warnings) > 0 {
		err = errors.New(strings.Join(j.warnings, "; "))
	}
	return err
}

// collection is the path where objects of that kind are created.
func (j *judge) collection(o object) (string, error) {
	known, err := j.discovery.ServerResourcesForGroupVersion(o.APIVersion)
	if apierrors.IsNotFound(err) {
		return "", errUndefined
	}
	if err != nil {
		return "", err
	}
	root := "/apis"
	if o.APIVersion == "v1" {
		root = "/api"
	}
	for _, r := range known.APIResources {
		switch {
		case r.Kind != o.Kind || strings.Contains(r.Name, "/"):
		case r.Namespaced:
			namespace := cmp.Or(o.Metadata.Namespace, metav1.NamespaceDefault)
			return path.Join(root, o.APIVersion, "namespaces", namespace, r.Name), nil
		default:
			return path.Join(root, o.APIVersion, r.Name), nil
		}
	}
	return "", errUndefined
}

// documents of a file of manifests.
func documents(t *testing.T, file string) (texts [][]byte) {
	t.Helper()
	all, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(all))); ; {
		text, err := reader.Read()
		if err == io.EOF {
			return texts
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		texts = append(texts, text)
	}
}

// parse returns what a document says that it is; ok is false where it is only comments.
func parse(t *testing.T, text []byte) (o object, ok bool) {
	t.Helper()
	if err := yaml.Unmarshal(text, &o); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return o, o.Kind != ""
}

func TestManifests(t *testing.T) {
	j := newJudge(t)
	t.Run("taken", j.takes)
	t.Run("refused", j.refuses)
}

// Kubernetes takes whatever the chart makes of each of the tests' values, what is for those
// who use no helm, and the examples.
func (j *judge) takes(t *testing.T) {
	var files []string
	for _, pattern := range []string{manifest, top + "test/chart/renders/*.golden", top + "docs/examples/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	taken, left := 0, map[string]string{}
	for _, file := range files {
		seen := map[string]bool{}
		for _, text := range documents(t, file) {
			o, ok := parse(t, text)
			if !ok {
				continue
			}
			name := fmt.Sprint(o, " in ", cmp.Or(o.Metadata.Namespace, "no namespace"))
			if seen[name] {
				t.Errorf("%s: %s stands there twice", file, name)
			}
			seen[name] = true
			err := j.create(t, o, text)
			reason := undefined[o.GroupVersionKind().Group]
			switch {
			case errors.Is(err, errUndefined) && reason != "":
				left[o.Kind] = reason
			case err != nil:
				t.Errorf("%s: %s: %v", file, o, err)
			default:
				taken++
			}
		}
	}
	t.Logf("counted: %d objects of %d files are taken", taken, len(files))
	for _, kind := range slices.Sorted(maps.Keys(left)) {
		t.Logf("counted: a %s is not tried: %s", kind, left[kind])
	}
}

// What it would not take is noticed.
func (j *judge) refuses(t *testing.T) {
	for _, c := range []struct{ kind, from, to, wanted string }{
		{"DaemonSet", "hostNetwork: true", "hostNetworks: true", "unknown field"},
		{"DaemonSet", "hostNetwork: true", "hostNetwork: \"yes\"", "hostNetwork"},
		{"Deployment", "replicas: 2", "replicas: two", "replicas"},
		{"Deployment", "{name: csi, mountPath", "{name: other, mountPath", "volumeMounts"},
		{"Deployment", "mountPath: /csi}", "mountPath: /csi, name: other}", "already set"},
		{"CSIDriver", "fsGroupPolicy: File", "fsGroupPolicy: Files", "fsGroupPolicy"},
		{"ClusterRole", "verbs:", "verb:", "unknown field"},
		{"Service", "namespace: csi-swiftblock", "namespace: elsewhere", "elsewhere"},
		{"Service", "kind: Service", "kind: Servant", errUndefined.Error()},
	} {
		broken := 0
		for _, text := range documents(t, manifest) {
			if o, ok := parse(t, text); !ok || o.Kind != c.kind || !bytes.Contains(text, []byte(c.from)) {
				continue
			}
			text = bytes.Replace(text, []byte(c.from), []byte(c.to), 1)
			o, _ := parse(t, text)
			if err := j.create(t, o, text); err == nil || !strings.Contains(err.Error(), c.wanted) {
				t.Errorf("%s with %s: %v, want an error about %q", o, c.to, err, c.wanted)
			}
			broken++
		}
		if broken == 0 {
			t.Errorf("no %s with %s", c.kind, c.from)
		}
	}
}
