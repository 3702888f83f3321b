package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// becomeFlusher tells the kernel that dirty pages are written back through this
// process (PR_SET_IO_FLUSHER): then its allocations of memory never wait for pages that
// wait for it, and its own writes are held up only behind what is dirty on the disk that
// they go to.
//
// The kernel keeps this per thread, and the Go runtime has threads by now. So the
// program is executed anew, as the same process: a thread inherits it from the one that
// made it, and the first from the one that called exec. Nothing may run yet that must
// not be cut short. It returns nil in the new program, or else why there is none.
func becomeFlusher() error {
	const again = "SWIFTBLOCK_IS_FLUSHER" // so that there is no third time
	if os.Getenv(again) != "" {
		os.Unsetenv(again)
		if !isFlusher() {
			return errors.New("PR_SET_IO_FLUSHER is not kept over exec")
		}
		return nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_IO_FLUSHER: %w", err)
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return fmt.Errorf("exec %s: %w", program, syscall.Exec(program, os.Args, append(os.Environ(), again+"=1")))
}

// isFlusher tells whether the calling thread is one.
func isFlusher() bool {
	on, err := unix.PrctlRetInt(unix.PR_GET_IO_FLUSHER, 0, 0, 0, 0)
	return err == nil && on == 1
}
