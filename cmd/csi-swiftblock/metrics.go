package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/trust"
)

// watched is what a process shows of itself over HTTP.
type watched struct {
	address string // "" shows nothing
	calls   *driver.Calls
}

func (w *watched) add(c *cobra.Command) {
	w.calls = driver.NewCalls()
	c.Flags().StringVar(&w.address, "metrics-address", "", "HOST:PORT of /metrics for Prometheus, without any access control; default: none")
}

// serve answers until ctx ends. What keeps it from that is logged and ends nothing
// else: pods need export more than anybody needs its metrics.
func (w *watched) serve(ctx context.Context, more ...prometheus.Collector) error {
	if w.address != "" {
		if err := w.listen(ctx, more); err != nil {
			slog.Error("no metrics", "error", err)
		}
	}
	<-ctx.Done()
	return nil
}

// listen shows metrics and, on a loopback address, what support-bundle collects
// besides, which is nothing for a network.
func (w *watched) listen(ctx context.Context, more []prometheus.Collector) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(append(more, w.calls, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), versionMetric())...)
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	listener, err := net.Listen("tcp", w.address)
	if err != nil {
		return fmt.Errorf("--metrics-address: %w", err)
	}
	if at, ok := listener.Addr().(*net.TCPAddr); ok && at.IP.IsLoopback() {
		mux.Handle("/debug/goroutines", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			r.URL.RawQuery = "debug=2"
			pprof.Handler("goroutine").ServeHTTP(rw, r)
		}))
		mux.HandleFunc("/debug/process", func(rw http.ResponseWriter, _ *http.Request) {
			// Secrets come by the environment and by files, never by arguments.
			fmt.Fprintf(rw, "csi-swiftblock %s\n%s\n", version, strings.Join(os.Args, "\n"))
		})
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// certificateMetric tells when the certificate of this process ends; nil keys have none.
func certificateMetric(keys *trust.Keys) prometheus.Collector {
	if keys == nil {
		return prometheus.NewRegistry() // an empty one
	}
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "swiftblock", Name: "certificate_end_timestamp_seconds",
		Help: "When the certificate ends by which this process is known to the others, in seconds since 1970.",
	}, func() float64 { return float64(keys.End().Unix()) })
}

func versionMetric() prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "swiftblock", Name: "build_info", Help: "Always 1, with the version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	g.Set(1)
	return g
}
