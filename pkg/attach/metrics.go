package attach

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/swiftblock/csi-swiftblock/pkg/cache"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
)

// metrics are counted as things happen; figures of the moment are read from the
// volumes when somebody asks, see [Exports.Collect]. docs/operations.md says what
// each means.
type metrics struct {
	commands *prometheus.HistogramVec // volume, operation
	uploaded *prometheus.CounterVec   // volume
}

func newMetrics() *metrics {
	return &metrics{
		commands: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "swiftblock", Subsystem: "volume", Name: "command_duration_seconds",
			Help:    "Time that SCSI commands took in the engine, the wait for a limit included.",
			Buckets: prometheus.ExponentialBuckets(0.00005, 4, 11), // 50 µs to 52 s
		}, []string{"volume", "operation"}),
		uploaded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "swiftblock", Subsystem: "volume", Name: "uploaded_bytes_total",
			Help: "Bytes of objects stored for a volume.",
		}, []string{"volume"}),
	}
}

// drop forgets a volume that is not served any more.
func (m *metrics) drop(id ident.Volume) {
	labels := prometheus.Labels{"volume": string(id)}
	m.commands.DeletePartialMatch(labels)
	m.uploaded.DeletePartialMatch(labels)
}

// meters time the commands of one volume. Nothing is allocated for a command.
type meters struct{ read, write, flush, discard, zero prometheus.Observer }

func (m *metrics) meters(id ident.Volume) meters {
	of := func(operation string) prometheus.Observer { return m.commands.WithLabelValues(string(id), operation) }
	return meters{of("read"), of("write"), of("flush"), of("discard"), of("zero")}
}

// observe is deferred: start is when the command began.
func observe(o prometheus.Observer, start time.Time) { o.Observe(time.Since(start).Seconds()) }

// figure is one of the moment, of a volume or a cache.
type figure[T any] struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(T) float64
}

func describe[T any](subsystem, name, help, label string, kind prometheus.ValueType, of func(T) float64) figure[T] {
	full := prometheus.BuildFQName("swiftblock", subsystem, name)
	return figure[T]{prometheus.NewDesc(full, help, []string{label}, nil), kind, of}
}

func gauge(name, help string, of func(volume.Stats) float64) figure[volume.Stats] {
	return describe("volume", name, help, "volume", prometheus.GaugeValue, of)
}

func counter(name, help string, of func(volume.Stats) float64) figure[volume.Stats] {
	return describe("volume", name, help, "volume", prometheus.CounterValue, of)
}

var figures = []figure[volume.Stats]{
	gauge("journal_fill_ratio", "How full the journal or its map is, whichever is fuller: from 0.5 on uploads hurry, from 0.75 on writes are delayed, near 1 they wait.",
		func(s volume.Stats) float64 { return s.Journal.Fill }),
	gauge("journal_used_bytes", "Bytes of the journal in use.", func(s volume.Stats) float64 { return float64(s.Journal.LogBytes) }),
	gauge("journal_quota_bytes", "Bytes that the journal may use.", func(s volume.Stats) float64 { return float64(s.Journal.Quota) }),
	gauge("dirty_bytes", "Bytes written that are not published.", func(s volume.Stats) float64 { return float64(s.Journal.DirtyBytes) }),
	gauge("writes_held", "Writes that wait for room in the journal.", func(s volume.Stats) float64 { return float64(s.Journal.Held) }),
	gauge("published_age_seconds", "Age of the newest published data; 0 while nothing is newer.", publishedAge),
	gauge("publication_failing", "1 while the publication, or a read from Swift, does not get on.", func(s volume.Stats) float64 { return truth(s.Failing != nil) }),
	gauge("damaged", "1 once damage was proven.", func(s volume.Stats) float64 { return truth(s.Damaged != nil) }),
	counter("journal_records_total", "Records written to the journal.", func(s volume.Stats) float64 { return float64(s.Journal.Records) }),
	counter("journal_syncs_total", "Syncs of the journal.", func(s volume.Stats) float64 { return float64(s.Journal.Syncs) }),
	counter("fetches_total", "GETs of immutable objects.", func(s volume.Stats) float64 { return float64(s.Fetches) }),
	counter("fetched_bytes_total", "Bytes that those GETs returned.", func(s volume.Stats) float64 { return float64(s.Fetched) }),
}

// publishedAge is what a loss of the node would cost now, in seconds.
func publishedAge(s volume.Stats) float64 {
	if s.Head == nil || s.Journal.DirtyBytes == 0 {
		return 0
	}
	return time.Since(s.Head.State.Sealed).Seconds()
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func cached(name, help string, kind prometheus.ValueType, of func(cache.Stats) float64) figure[cache.Stats] {
	return describe("cache", name, help, "kind", kind, of)
}

var cacheFigures = []figure[cache.Stats]{
	cached("hits_total", "Lookups answered from memory.", prometheus.CounterValue, func(s cache.Stats) float64 { return float64(s.Hits) }),
	cached("misses_total", "Lookups that fetched from Swift.", prometheus.CounterValue, func(s cache.Stats) float64 { return float64(s.Misses) }),
	cached("joined_total", "Lookups that waited for another's fetch.", prometheus.CounterValue, func(s cache.Stats) float64 { return float64(s.Joined) }),
	cached("evictions_total", "Entries that made room.", prometheus.CounterValue, func(s cache.Stats) float64 { return float64(s.Evictions) }),
	cached("used_bytes", "Memory in use.", prometheus.GaugeValue, func(s cache.Stats) float64 { return float64(s.Bytes) }),
	cached("limit_bytes", "Memory that may be used.", prometheus.GaugeValue, func(s cache.Stats) float64 { return float64(s.Limit) }),
}

var _ prometheus.Collector = (*Exports)(nil)

// Describe implements [prometheus.Collector].
func (x *Exports) Describe(ch chan<- *prometheus.Desc) {
	x.config.metrics.commands.Describe(ch)
	x.config.metrics.uploaded.Describe(ch)
	for _, f := range figures {
		ch <- f.desc
	}
	for _, f := range cacheFigures {
		ch <- f.desc
	}
}

// Collect implements [prometheus.Collector]. It holds up no call on a volume.
func (x *Exports) Collect(ch chan<- prometheus.Metric) {
	x.config.metrics.commands.Collect(ch)
	x.config.metrics.uploaded.Collect(ch)
	x.mu.Lock()
	served := make(map[ident.Volume]*volume.Volume, len(x.byID))
	for id, e := range x.byID {
		if s := e.shown.Load(); s != nil {
			served[id] = s.Volume
		}
	}
	x.mu.Unlock()
	for id, v := range served {
		s := v.Stats()
		for _, f := range figures {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.of(s), string(id))
		}
	}
	if x.config.Cache == nil {
		return
	}
	s := x.config.Cache.Stats()
	for kind, stats := range map[string]cache.Stats{"slots": s.Slots, "footers": s.Indexes} {
		for _, f := range cacheFigures {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.of(stats), kind)
		}
	}
}
