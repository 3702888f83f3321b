package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/swiftblock/csi-swiftblock/test/targets"
)

// workload is one way of using a LUN.
type workload struct {
	what  string
	size  int // of a request, in bytes
	depth int // requests in flight
	write bool
	seq   bool
	flush int     // requests from one flush to the next; 0: none
	goal  float64 // at least this multiple of the peer
}

// stride of random requests: an odd number of 4 KiB blocks, so that all blocks
// of the device are met before one is met again.
const stride = 40503 * 4096

// sample is what one run has measured.
type sample struct {
	requests int
	took     time.Duration
	cpu      time.Duration // of the target
}

func (s sample) rate() float64 { return float64(s.requests) / s.took.Seconds() }

// took is what qemu-img bench says in the end.
var took = regexp.MustCompile(`Run completed in ([0-9.]+) seconds`)

// do makes a number of requests to a server, as one run of qemu-img.
func (w *workload) do(ctx context.Context, s *targets.Server, requests int) (sample, error) {
	step := w.size
	if !w.seq {
		step = stride
	}
	args := []string{
		"bench", "-f", "raw", "-c", strconv.Itoa(requests), "-d", strconv.Itoa(w.depth),
		"-s", strconv.Itoa(w.size), "-S", strconv.Itoa(step),
	}
	if w.write {
		args = append(args, "-w", "--pattern=90")
	}
	if w.flush > 0 {
		args = append(args, "--flush-interval", strconv.Itoa(w.flush))
	}
	before, err := cpuTime(s.PID())
	if err != nil {
		return sample{}, err
	}
	text, err := exec.CommandContext(ctx, "qemu-img", append(args, s.URL)...).CombinedOutput()
	m := took.FindSubmatch(text)
	if err != nil || m == nil {
		return sample{}, fmt.Errorf("qemu-img bench on %s, %s: %w\n%s", s.Name, w.what, err, text)
	}
	after, err := cpuTime(s.PID())
	if err != nil {
		return sample{}, err
	}
	seconds, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		return sample{}, err
	}
	return sample{requests, time.Duration(seconds * float64(time.Second)), after - before}, nil
}

// calibrate returns how many requests take about as long as a run is to take.
func (w *workload) calibrate(ctx context.Context, s *targets.Server, run time.Duration) (int, error) {
	n := max(w.depth, 4<<20/w.size)
	for {
		got, err := w.do(ctx, s, n)
		if err != nil {
			return 0, err
		}
		if got.took >= run/4 {
			return max(w.depth, int(got.rate()*run.Seconds())), nil
		}
		n *= 4
	}
}

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on all
// architectures that Linux has Go on.
const tick = 10 * time.Millisecond

// cpuTime is the CPU time that a process has used, in user and kernel mode.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses; utime and stime are
	// the 14th and 15th (proc(5)).
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, err
}
