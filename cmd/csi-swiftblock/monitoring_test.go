package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/yaml"

	"github.com/swiftblock/csi-swiftblock/pkg/attach"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/trust"
)

// exported are the names of the metrics that our processes show, by what they
// describe of themselves, with those that a histogram is made of.
func (a *admin) exported() map[string]bool {
	a.Helper()
	store, err := openStore()
	if err != nil {
		a.Fatal(err)
	}
	exports, err := attach.New(attach.Config{Dir: a.dir + "/state", RunDir: a.dir + "/run", Store: store})
	if err != nil {
		a.Fatal(err)
	}
	descriptions := make(chan *prometheus.Desc, 1000)
	for _, c := range []prometheus.Collector{store, exports, driver.NewCalls(), driver.NewShown(nil), certificateMetric(&trust.Keys{}), versionMetric()} {
		c.Describe(descriptions)
	}
	close(descriptions)
	names := make(map[string]bool)
	for d := range descriptions {
		name := regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]
		names[name] = true
		if strings.HasSuffix(name, "_seconds") {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				names[name+part] = true
			}
		}
	}
	return names
}

const chart = "../../charts/csi-swiftblock/"

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What alerts and dashboard ask for is what the processes show.
func TestMetricsOfTheChart(t *testing.T) {
	exported := newAdmin(t).exported()
	for _, file := range []string{"files/alerts.yaml", "files/dashboard.json"} {
		used := regexp.MustCompile(`swiftblock_[a-z_]+`).FindAllString(read(t, chart+file), -1)
		if len(used) < 5 {
			t.Errorf("%s asks for %d metrics", file, len(used))
		}
		for _, name := range used {
			if !exported[name] {
				t.Errorf("%s asks for %s, which no process shows", file, name)
			}
		}
	}
}

// Each alert is in docs/operations.md, and each that is there exists; promtool raises
// each (test/chart/alerts.test.yaml).
func TestAlertsAreDocumented(t *testing.T) {
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, chart+"files/alerts.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	var promtool struct {
		Tests []struct {
			Rules []struct {
				Alert  string `json:"alertname"`
				Raised []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "../../test/chart/alerts.test.yaml")), &promtool); err != nil {
		t.Fatal(err)
	}
	raised := make(map[string]bool)
	for _, test := range promtool.Tests {
		for _, rule := range test.Rules {
			raised[rule.Alert] = raised[rule.Alert] || len(rule.Raised) > 0
		}
	}
	_, table, _ := strings.Cut(read(t, "../../docs/operations.md"), "## Alerts\n")
	table, _, _ = strings.Cut(table, "\n## ")
	documented := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `(Swiftblock[A-Za-z]+)`").FindAllStringSubmatch(table, -1) {
		documented[row[1]] = true
	}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if severity := rule.Labels["severity"]; severity != "warning" && severity != "critical" || rule.Expr == "" ||
				rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("incomplete: %+v", rule)
			}
			if !documented[rule.Alert] {
				t.Errorf("%s is not in docs/operations.md", rule.Alert)
			}
			if !raised[rule.Alert] {
				t.Errorf("test/chart/alerts.test.yaml never raises %s", rule.Alert)
			}
			delete(documented, rule.Alert)
		}
	}
	for alert := range documented {
		t.Errorf("docs/operations.md has %s, which is no alert", alert)
	}
}
