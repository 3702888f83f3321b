// Command ramtarget serves RAM over iSCSI: the target that conformance tests
// and benchmarks run against.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/swiftblock/csi-swiftblock/pkg/target"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on; the one chosen is printed")
	iqn := flag.String("iqn", "iqn.2026-11.dev.swiftblock:ram", "target name")
	size := flag.Int64("size", 256<<20, "size in bytes")
	user := flag.String("chap-user", "", "CHAP user; none: no CHAP")
	secret := flag.String("chap-secret", "", "CHAP secret")
	verbose := flag.Bool("v", false, "log sessions to stderr")
	flag.Parse()
	if err := run(*addr, *iqn, *size, target.CHAP{User: *user, Secret: *secret}, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "ramtarget:", err)
		os.Exit(1)
	}
}

func run(addr, iqn string, size int64, chap target.CHAP, verbose bool) error {
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
			Device: newRAM(size),
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
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	done, cancel := context.WithCancel(context.Background())
	cancel() // commands in RAM end by themselves
	return errors.Join(server.Shutdown(done), <-served)
}
