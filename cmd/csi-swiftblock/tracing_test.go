package main

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/swiftblock/csi-swiftblock/pkg/trust"
)

// spans is a collector of traces.
type spans struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	names []string
	trace map[string]int // how many of each trace
	who   string
}

func (s *spans) Export(_ context.Context, q *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range q.GetResourceSpans() {
		for _, a := range r.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				s.who = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range r.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				s.names = append(s.names, span.GetName()+" "+span.GetKind().String())
				s.trace[string(span.GetTraceId())]++
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// A call is one trace, from the client to the server.
func TestTraces(t *testing.T) {
	a := newAdmin(t)
	got := &spans{trace: map[string]int{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, got)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	t.Setenv("OTEL_SERVICE_NAME", "swiftblock-test")

	stop, err := startTracing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ended := tracetest.NewSpanRecorder()
	otel.GetTracerProvider().(*trace.TracerProvider).RegisterSpanProcessor(ended)
	a.controller()
	conn, err := (*trust.Keys)(nil).Dial("unix://"+filepath.Join(a.dir, "csi.sock"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := csi.NewIdentityClient(conn).GetPluginInfo(ctx, &csi.GetPluginInfoRequest{}); err != nil {
		t.Fatal(err)
	}
	// The server's ends a moment after the client has its answer.
	for ctx.Err() == nil && len(ended.Ended()) < len(ended.Started()) {
		time.Sleep(time.Millisecond)
	}
	stop()
	got.mu.Lock()
	defer got.mu.Unlock()
	for _, want := range []string{"csi.v1.Identity/GetPluginInfo SPAN_KIND_CLIENT", "csi.v1.Identity/GetPluginInfo SPAN_KIND_SERVER"} {
		if !slices.Contains(got.names, want) {
			t.Errorf("no span %q in %q", want, got.names)
		}
	}
	together := false
	for _, n := range got.trace {
		together = together || n == 2
	}
	if !together || got.who != "swiftblock-test" {
		t.Errorf("traces %v of %q", got.trace, got.who)
	}
}

func TestNoTracesUnlessWanted(t *testing.T) {
	for name, env := range map[string][]string{
		"nothing":  nil,
		"disabled": {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://x", "OTEL_SDK_DISABLED", "true"},
		"none":     {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://x", "OTEL_TRACES_EXPORTER", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			for i := 0; i < len(env); i += 2 {
				t.Setenv(env[i], env[i+1])
			}
			if tracingWanted() {
				t.Error("wanted")
			}
		})
	}
}
