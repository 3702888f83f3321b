package swift

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what a client does. docs/operations.md says what each means.
type metrics struct {
	requests *prometheus.CounterVec   // operation, status
	duration *prometheus.HistogramVec // operation
	retries  *prometheus.CounterVec   // operation
	logIns   *prometheus.CounterVec   // outcome
	refused  prometheus.Gauge
	sent     prometheus.Counter
	received prometheus.Counter

	all []prometheus.Collector
}

func newMetrics(t *turnstile) *metrics {
	const namespace, subsystem = "swiftblock", "store"
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, ConstLabels: labels,
		}, value)
	}
	m := &metrics{
		requests: counter("requests_total", `Requests sent to the object store, by the HTTP status of the answer ("none": there was none).`, "operation", "status"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "request_duration_seconds",
			Help:    "Time from sending a request until its answer was read, without the wait for a turn.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14), // 2 ms to 16 s
		}, []string{"operation"}),
		retries: counter("retries_total", "Requests that repeat one that failed for a passing reason.", "operation"),
		logIns:  counter("log_ins_total", "Log-ins at the object store, by outcome.", "outcome"),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "credentials_refused",
			Help: "1 while the newest credentials are refused, or cannot be read, though older ones may still be in use.",
		}),
	}
	bytes := counter("body_bytes_total", "Bytes of bodies sent to and received from the object store.", "direction")
	m.sent, m.received = bytes.WithLabelValues("sent"), bytes.WithLabelValues("received")
	m.all = []prometheus.Collector{
		m.requests, m.duration, m.retries, m.logIns, m.refused, bytes,
		gauge("requests_in_flight", "Requests on their way.", nil, func() float64 { n, _ := t.counts(); return float64(n) }),
		gauge("requests_waiting", "Requests that wait for their turn.", nil, func() float64 { _, n := t.counts(); return float64(n) }),
	}
	for k := range kinds {
		m.all = append(m.all, gauge("broken", "1 while the object store does not answer and only probes are sent.", prometheus.Labels{"kind": k.String()},
			func() float64 {
				if t.trouble(k) != nil {
					return 1
				}
				return 0
			}))
	}
	return m
}

// sentOne counts one attempt of a request. status is 0 if there was no answer.
func (m *metrics) sentOne(op string, status int, took time.Duration) {
	label := "none"
	if status != 0 {
		label = strconv.Itoa(status)
	}
	m.requests.WithLabelValues(op, label).Inc()
	m.duration.WithLabelValues(op).Observe(took.Seconds())
}

// loggedIn counts a log-in.
func (m *metrics) loggedIn(err error) {
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	m.logIns.WithLabelValues(outcome).Inc()
}

var _ prometheus.Collector = (*Client)(nil)

// Describe implements [prometheus.Collector].
func (c *Client) Describe(ch chan<- *prometheus.Desc) {
	for _, collector := range c.metrics.all {
		collector.Describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (c *Client) Collect(ch chan<- prometheus.Metric) {
	for _, collector := range c.metrics.all {
		collector.Collect(ch)
	}
}
