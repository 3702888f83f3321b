// Command ramtarget serves one device over iSCSI: the target that conformance tests
// and benchmarks run against. The device is RAM, or a volume of the block engine. On
// SIGHUP it grows by half and initiators are told.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target"
)

// identity is that of the LUN.
const identity = "0123456789abcdef0123456789abcdef"

// device is what is served.
type device interface {
	target.Device
	// grow makes the device larger and returns its size.
	grow() (int64, error)
	close() error
}

type options struct {
	addr, iqn    string
	size         int64
	chap         target.CHAP
	file, engine string
	delay        time.Duration
	corrupt      int
	verbose      bool
}

func main() {
	var o options
	flag.StringVar(&o.addr, "addr", "127.0.0.1:0", "address to listen on; the one chosen is printed")
	flag.StringVar(&o.iqn, "iqn", "iqn.2026-11.dev.swiftblock:ram", "target name")
	flag.Int64Var(&o.size, "size", 256<<20, "size in bytes")
	flag.StringVar(&o.chap.User, "chap-user", "", "CHAP user; none: no CHAP")
	flag.StringVar(&o.chap.Secret, "chap-secret", "", "CHAP secret")
	flag.StringVar(&o.file, "file", "", "file to keep the data in, mapped into memory, so that they outlive the process")
	flag.StringVar(&o.engine, "engine", "", "directory for a volume of the block engine, which is served instead of RAM")
	flag.DurationVar(&o.delay, "delay", 0, "time that every read and write of the RAM takes")
	flag.IntVar(&o.corrupt, "corrupt", 0, "flip a bit in about every so many bytes on the wire; 0: none")
	flag.BoolVar(&o.verbose, "v", false, "log sessions to stderr")
	mallocs := flag.Bool("mallocs", false, "at the end, print to stderr how many allocations were made")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "ramtarget:", err)
		os.Exit(1)
	}
	if *mallocs {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Fprintln(os.Stderr, "mallocs", m.Mallocs)
	}
}

func run(o options) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d, err := o.device(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	server, err := o.server(d)
	if err != nil {
		return err
	}
	fmt.Printf("iscsi://%s/%s/0\n", server.Addr(), o.iqn)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve() }()
	grow := make(chan os.Signal, 1)
	signal.Notify(grow, syscall.SIGHUP)
	for {
		select {
		case err := <-ended:
			return err
		case <-grow:
			size, err := d.grow()
			if err == nil {
				err = server.Resize(o.iqn, 0, size)
			}
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return errors.Join(server.Shutdown(ctx), <-ended) // commands in flight end by themselves
		}
	}
}

func (o *options) device(ctx context.Context) (device, error) {
	if o.engine != "" {
		return newEngine(ctx, o.engine, o.size)
	}
	r, err := newRAM(o.size, o.file)
	if err != nil {
		return nil, err
	}
	r.delay = o.delay
	return r, nil
}

// server listens and has the target.
func (o *options) server(d device) (*target.Server, error) {
	listener, err := net.Listen("tcp", o.addr)
	if err != nil {
		return nil, err
	}
	config := target.Config{Listener: listener}
	if o.corrupt > 0 {
		config.Listener = corrupting{listener, o.corrupt}
	}
	if o.verbose {
		config.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	server, err := target.New(config)
	if err != nil {
		return nil, err
	}
	return server, server.AddTarget(target.Target{
		IQN:    o.iqn,
		CHAP:   o.chap,
		Shared: true,
		LUNs:   []target.LUN{{Volume: identity, Device: d, Keeper: keeper(o.file)}},
	})
}
