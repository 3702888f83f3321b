// Command ramtarget serves RAM over iSCSI: the target that conformance tests
// and benchmarks run against. On SIGHUP its device grows by half and initiators
// are told.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/swiftblock/csi-swiftblock/pkg/target"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on; the one chosen is printed")
	iqn := flag.String("iqn", "iqn.2026-11.dev.swiftblock:ram", "target name")
	size := flag.Int64("size", 256<<20, "size in bytes")
	user := flag.String("chap-user", "", "CHAP user; none: no CHAP")
	secret := flag.String("chap-secret", "", "CHAP secret")
	file := flag.String("file", "", "file to keep the data in, mapped into memory, so that they outlive the process")
	delay := flag.Duration("delay", 0, "time that every read and write of the device takes")
	mallocs := flag.Bool("mallocs", false, "at the end, print to stderr how many allocations were made")
	verbose := flag.Bool("v", false, "log sessions to stderr")
	flag.Parse()
	device, err := newRAM(*size, *file)
	if err == nil {
		device.delay = *delay
		err = run(*addr, *iqn, device, target.CHAP{User: *user, Secret: *secret}, *verbose)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ramtarget:", err)
		os.Exit(1)
	}
	if *mallocs {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Fprintln(os.Stderr, "mallocs", m.Mallocs)
	}
}

func run(addr, iqn string, device *ram, chap target.CHAP, verbose bool) error {
	cfg := target.Config{Addr: addr}
	if verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	server, err := target.New(cfg)
	if err != nil {
		return err
	}
	err = server.AddTarget(target.Target{
		IQN:    iqn,
		CHAP:   chap,
		Shared: true,
		LUNs: []target.LUN{{
			Volume: "0123456789abcdef0123456789abcdef",
			Device: device,
		}},
	})
	if err != nil {
		return err
	}
	fmt.Printf("iscsi://%s/%s/0\n", server.Addr(), iqn)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	grow := make(chan os.Signal, 1)
	signal.Notify(grow, syscall.SIGHUP)
	for running := true; running; {
		select {
		case err := <-served:
			return err
		case <-grow:
			if err := server.Resize(iqn, 0, device.grow()); err != nil {
				return err
			}
		case <-ctx.Done():
			running = false
		}
	}
	done, cancel := context.WithCancel(context.Background())
	cancel() // commands in RAM end by themselves
	return errors.Join(server.Shutdown(done), <-served)
}
