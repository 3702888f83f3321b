package driver

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// Calls counts the calls of servers. It is nil for servers that count none.
type Calls struct {
	handled  *prometheus.CounterVec   // method, code
	duration *prometheus.HistogramVec // method
}

var _ prometheus.Collector = (*Calls)(nil)

// NewCalls returns counters at zero.
func NewCalls() *Calls {
	const namespace, subsystem = "swiftblock", "rpc"
	return &Calls{
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "calls_total", Help: "Calls that were answered, by gRPC code.",
		}, []string{"method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "call_duration_seconds", Help: "Time until calls were answered.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10), // 1 ms to 262 s
		}, []string{"method"}),
	}
}

// Describe implements [prometheus.Collector].
func (c *Calls) Describe(ch chan<- *prometheus.Desc) {
	c.handled.Describe(ch)
	c.duration.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (c *Calls) Collect(ch chan<- prometheus.Metric) {
	c.handled.Collect(ch)
	c.duration.Collect(ch)
}

func (c *Calls) counted(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if c == nil {
		return next(ctx, req)
	}
	start := time.Now()
	answer, err := next(ctx, req)
	method := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	c.handled.WithLabelValues(method, status.Code(err).String()).Inc()
	c.duration.WithLabelValues(method).Observe(time.Since(start).Seconds())
	return answer, err
}
