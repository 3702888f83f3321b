// Package operator holds what the chart makes for the Prometheus operator to the operator's own
// definitions, as an API server would. A module of its own: ours has no use for the operator's.
package operator

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil" // its module holds the definitions
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/yaml"
)

// definition is the schema of a CustomResourceDefinition's version v1.
func definition(t *testing.T, plural string) *spec.Schema {
	t.Helper()
	directory, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus-operator/prometheus-operator").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(directory)), "example/prometheus-operator-crd/monitoring.coreos.com_"+plural+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema *spec.Schema }
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatal(err)
	}
	if v := crd.Spec.Versions; len(v) != 1 || v[0].Name != "v1" || v[0].Schema.OpenAPIV3Schema == nil {
		t.Fatalf("%s: not one version v1 with a schema", plural)
	}
	return crd.Spec.Versions[0].Schema.OpenAPIV3Schema
}

// wrong says what an API server would refuse of an object, or drop from it without a word.
func wrong(schema *spec.Schema, object map[string]any) []string {
	var all []string
	for _, err := range validate.NewSchemaValidator(schema, nil, "", strfmt.Default).Validate(object).Errors {
		all = append(all, err.Error())
	}
	return append(all, unknown(schema, "", object)...)
}

// unknown are the fields of a value that its schema does not have.
func unknown(schema *spec.Schema, path string, value any) []string {
	var all []string
	switch value := value.(type) {
	case map[string]any:
		for name, field := range value {
			if path == "" && name == "metadata" {
				continue // the API server's own
			}
			inner, ok := schema.Properties[name]
			switch {
			case ok:
				all = append(all, unknown(&inner, path+"."+name, field)...)
			case schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil:
				all = append(all, unknown(schema.AdditionalProperties.Schema, path+"."+name, field)...)
			default:
				all = append(all, fmt.Sprintf("unknown: %s.%s", path, name))
			}
		}
	case []any:
		for i, item := range value {
			all = append(all, unknown(schema.Items.Schema, fmt.Sprintf("%s.%d", path, i), item)...)
		}
	}
	return all
}

// rendered is the object of a kind in the render with all values.
func rendered(t *testing.T, kind string) map[string]any {
	t.Helper()
	text, err := os.ReadFile("../renders/all.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range strings.Split("\n"+string(text), "\n---\n") {
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		if object["apiVersion"] == "monitoring.coreos.com/v1" && object["kind"] == kind {
			return object
		}
	}
	t.Fatalf("the chart makes no %s", kind)
	return nil
}

func TestTheOperatorTakesWhatTheChartMakes(t *testing.T) {
	for kind, plural := range map[string]string{"ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"} {
		for _, wrong := range wrong(definition(t, plural), rendered(t, kind)) {
			t.Errorf("%s: %s", kind, wrong)
		}
	}
}

// What is broken on purpose is noticed: else the test above would say nothing.
func TestTheOperatorRefuses(t *testing.T) {
	of := func(object map[string]any) map[string]any { return object["spec"].(map[string]any) }
	first := func(object map[string]any, list string) map[string]any {
		return object[list].([]any)[0].(map[string]any)
	}
	monitor, rule := definition(t, "servicemonitors"), definition(t, "prometheusrules")
	for _, c := range []struct {
		kind, wanted string
		schema       *spec.Schema
		harm         func(spec map[string]any)
	}{
		{"ServiceMonitor", "spec.selector in body is required", monitor, func(o map[string]any) { delete(o, "selector") }},
		{"ServiceMonitor", "spec.endpoints[0].interval in body should match", monitor, func(o map[string]any) { first(o, "endpoints")["interval"] = "often" }},
		{"ServiceMonitor", "unknown: .spec.endpoints.0.every", monitor, func(o map[string]any) { first(o, "endpoints")["every"] = "30s" }},
		{"PrometheusRule", "expr in body is required", rule, func(o map[string]any) { delete(first(first(o, "groups"), "rules"), "expr") }},
		{"PrometheusRule", "for in body should match", rule, func(o map[string]any) { first(first(o, "groups"), "rules")["for"] = "a while" }},
		{"PrometheusRule", "unknown: .spec.groups.0.rules.0.severity", rule, func(o map[string]any) { first(first(o, "groups"), "rules")["severity"] = "warning" }},
	} {
		object := rendered(t, c.kind)
		c.harm(of(object))
		if found := strings.Join(wrong(c.schema, object), "\n"); !strings.Contains(found, c.wanted) {
			t.Errorf("%s: want %q to be found, have %q", c.kind, c.wanted, found)
		}
	}
}
