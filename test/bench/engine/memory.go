package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/test/bench/report"
	"github.com/swiftblock/csi-swiftblock/test/bench/rig"
)

// attachment is what the child attaches.
type attachment struct {
	Cred      swift.Credentials
	Container string
	Ref       snapshots.Ref
	Dir       string
}

// tableMemory measures, in processes that do nothing else, what a populated and
// attached volume takes after one read in each page of its table.
func tableMemory(b *bench) error {
	size := rig.Pick[int64](b.Bench, 4*tib, 128*gib)
	var touched []uint64
	for chunk := uint64(0); chunk < uint64(size/chunks.Size); chunk += snapshots.PageChunks {
		touched = append(touched, chunk)
	}
	content := make([]byte, chunks.Size) // little of it, so that what is cached is not counted
	copy(content, rig.Noise(6, block))
	root, err := rig.PopulatedNew(b.Ctx, b.Main, size, content, touched...)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	ours, err := rig.Take(func() (float64, error) {
		dir := b.Path("attached")
		if err := os.Mkdir(dir, 0o777); err != nil {
			return 0, err
		}
		text, err := json.Marshal(attachment{b.Main.Cred, root.Container, root.Ref, dir})
		if err != nil {
			return 0, err
		}
		cmd := exec.CommandContext(b.Ctx, program, "-child")
		cmd.Stdin, cmd.Stderr = bytes.NewReader(text), os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return 0, err
		}
		var taken int64
		_, err = fmt.Sscan(string(out), &taken)
		return float64(taken) / mib / (float64(size) / tib), err
	})
	if err != nil {
		return err
	}
	b.Count(fmt.Sprintf("resident memory for each attached, populated TiB, of %d GiB, one read in each page", size/gib), "MiB", report.AtMost(16), ours...)
	return nil
}

// attachChild attaches a volume and prints by how many bytes that made the
// process larger.
func attachChild(ctx context.Context) error {
	var a attachment
	if err := json.NewDecoder(os.Stdin).Decode(&a); err != nil {
		return err
	}
	client, err := swift.New(a.Cred, swift.Options{})
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Check(ctx); err != nil {
		return err
	}
	b := &bench{rig.Scratch(ctx, a.Dir)}
	before, err := resident()
	if err != nil {
		return err
	}
	root, err := snapshots.LoadRoot(ctx, client, a.Container, a.Ref)
	if err != nil {
		return err
	}
	v, err := b.open(client, a.Container, root, root.State.Size, 256*mib)
	if err != nil {
		return err
	}
	defer v.end()
	p := make([]byte, block)
	for off := int64(0); off < root.State.Size; off += snapshots.PageChunks * chunks.Size {
		if err := v.ReadAt(ctx, p, off); err != nil {
			return err
		}
	}
	after, err := resident()
	fmt.Println(after - before)
	return err
}

// resident is the memory of the process, after it has given back what it can.
func resident() (int64, error) {
	runtime.GC()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, pages int64
	_, err = fmt.Sscan(string(text), &size, &pages)
	return pages * int64(os.Getpagesize()), err
}
