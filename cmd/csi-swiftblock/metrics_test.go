package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serve runs a command in this process until the test ends.
func (a *admin) serve(args ...string) {
	a.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := a.try(ctx, args...)
		ended <- err
	}()
	a.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			a.Error(err)
		}
	})
}

// controller runs one in this process until the test ends, and returns where it
// shows its metrics. It has served a call by then.
func (a *admin) controller(more ...string) (metrics string) {
	a.Helper()
	metrics = freeAddress(a.T)
	socket := "unix://" + filepath.Join(a.dir, "csi.sock")
	a.serve(append([]string{
		"controller", "--csi", socket, "--openings", "unix://" + filepath.Join(a.dir, "openings.sock"), "--metrics-address", metrics,
	}, more...)...)
	conn, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		a.Fatal(err)
	}
	defer conn.Close()
	wait, done := context.WithTimeout(a.Context(), time.Minute)
	defer done()
	if _, err := csi.NewIdentityClient(conn).Probe(wait, &csi.ProbeRequest{}, grpc.WaitForReady(true)); err != nil {
		a.Fatal(err)
	}
	return metrics
}

// fetch returns what a process shows, once it does.
func (a *admin) fetch(address, path string) string {
	a.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			if time.Now().After(deadline) {
				a.Fatal(err)
			}
			continue
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			a.Fatalf("%s: %s, %v", path, resp.Status, err)
		}
		return string(b)
	}
}

func TestMetrics(t *testing.T) {
	a := newAdmin(t)
	address := a.controller()
	text := a.fetch(address, "/metrics")
	for _, want := range []string{
		`swiftblock_rpc_calls_total{code="OK",method="Probe"} 1`,
		`swiftblock_rpc_call_duration_seconds_count{method="Probe"} 1`,
		`swiftblock_build_info{version="` + version + `"} 1`,
		`swiftblock_store_broken{kind="reading"} 0`,
		"go_goroutines",
		"process_resident_memory_bytes",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if text := a.fetch(address, "/debug/goroutines"); !strings.Contains(text, "watched).serve") {
		t.Errorf("goroutines: %.200s", text)
	}
	if text := a.fetch(address, "/debug/process"); !strings.Contains(text, "csi-swiftblock "+version) || strings.Contains(text, a.swift.Key()) {
		t.Errorf("process: %s", text)
	}
}

// When its certificate ends a process says of the one that it uses now: one that is due
// for SwiftblockCertificateEnds, and then the one that has come in its place.
func TestCertificateMetric(t *testing.T) {
	a := newAdmin(t)
	keys := filepath.Join(a.dir, "keys")
	issue := func(valid time.Duration) { a.run("certificates", "--valid", valid.String(), keys, "worker-1") }
	left := func(address string) time.Duration {
		t.Helper()
		found := regexp.MustCompile(`(?m)^swiftblock_certificate_end_timestamp_seconds (.+)$`).FindStringSubmatch(a.fetch(address, "/metrics"))
		if found == nil {
			t.Fatal("the metrics do not say when the certificate ends")
		}
		end, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return time.Until(time.Unix(int64(end), 0)).Round(time.Hour)
	}
	const day = 24 * time.Hour
	issue(13 * day)
	address := a.controller("--certificates", filepath.Join(keys, "controller"))
	if have := left(address); have != 13*day {
		t.Errorf("it ends in %v, want 13 days", have)
	}
	issue(90 * day)
	if have := left(address); have != 90*day {
		t.Errorf("the new one ends in %v, want 90 days", have)
	}
}
