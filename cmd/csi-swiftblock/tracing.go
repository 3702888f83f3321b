package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// traceStop is how long spans may take to leave when the process ends.
const traceStop = 3 * time.Second

// startTracing sends spans of calls over OTLP (gRPC) to where the standard OTEL_
// variables say, if they name an endpoint. What goes wrong on the way is logged and
// disturbs nothing else.
func startTracing(ctx context.Context) (stop func(), err error) {
	if !tracingWanted() {
		return func() {}, nil
	}
	exporter, err := otlptracegrpc.New(ctx)
	if err != nil {
		return nil, err
	}
	who, err := resource.Merge(resource.NewSchemaless(attribute.String("service.name", "csi-swiftblock")), resource.Environment())
	if err != nil {
		return nil, errors.Join(err, exporter.Shutdown(ctx))
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(who))
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { slog.Warn("traces", "error", err) }))
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), traceStop)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			slog.Warn("traces", "error", err)
		}
	}, nil
}

func tracingWanted() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if e := os.Getenv("OTEL_TRACES_EXPORTER"); e != "" && e != "otlp" {
		return false
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}
