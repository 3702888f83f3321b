package delta_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// The kill test runs this test binary again as a writer, which reports each
// acknowledgement to its parent, the witness, and is killed.

const (
	writerDir = "DELTA_TEST_WRITER_DIR" // environment of the writer process
	writerID  = "DELTA_TEST_WRITER_VOLUME"
	writers   = 8
	ownBlocks = 64 // blocks that belong to one writer
)

func TestMain(m *testing.M) {
	if os.Getenv(writerDir) == "" {
		os.Exit(m.Run())
	}
	if err := runWriter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func killConfig(dir string) delta.Config {
	return delta.Config{Dir: filepath.Join(dir, "journal"), RunDir: dir, SegmentSize: 1 << 20, Quota: 256 << 20, AllowAnyFS: true}
}

func killIdentity(volume string) delta.Identity {
	return delta.Identity{Volume: ident.Volume(volume), Epoch: ident.Epoch{Number: 1, Tag: 1}}
}

func openOrCreate(cfg delta.Config, id delta.Identity) (*delta.Journal, error) {
	j, err := delta.Open(cfg, id)
	if errors.Is(err, fs.ErrNotExist) {
		return delta.Create(cfg, id, delta.State{Size: writers * ownBlocks * delta.Block})
	}
	return j, err
}

// runWriter writes until it is killed: writer w gives its write n to block n
// modulo ownBlocks of its own, and says so when the write was acknowledged.
func runWriter() error {
	j, err := openOrCreate(killConfig(os.Getenv(writerDir)), killIdentity(os.Getenv(writerID)))
	if err != nil {
		return err
	}
	round := time.Now().UnixNano() // numbers grow from round to round
	for w := range writers {
		fmt.Fprintf(os.Stdout, "begin %d %d\n", w, round)
	}
	failed := make(chan error)
	for w := range int64(writers) {
		go func() {
			p := make([]byte, delta.Block)
			for n := round; ; n++ {
				off := (w*ownBlocks + n%ownBlocks) * delta.Block
				stamp(p, off, n)
				if err := j.Write(context.Background(), off, p, w == 0); err != nil {
					failed <- err
				}
				fmt.Fprintf(os.Stdout, "done %d %d\n", w, n)
				if w == 1 && n%100 == 0 {
					if _, err := j.Seal(context.Background(), "", false); err != nil {
						failed <- err
					}
				}
			}
		}()
	}
	return <-failed
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) { // P1
	rounds := 5
	if testing.Short() {
		rounds = 2
	}
	dir, volume := t.TempDir(), string(ident.NewVolume())
	seed := rand.Uint64()
	t.Logf("seed %d, on the real file system in %s", seed, dir)
	r := rand.New(rand.NewPCG(seed, 0))
	acknowledged := make(map[int64]int64) // by offset
	var inFlight [writers]int64           // the write after the last acknowledged one
	total := 0
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerDir+"="+dir, writerID+"="+volume)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var kill *time.Timer
		for lines := bufio.NewScanner(out); lines.Scan(); total++ { // pipe writes this short are whole
			if kill == nil { // it works: it may die
				kill = time.AfterFunc(time.Duration(r.IntN(200))*time.Millisecond, func() { cmd.Process.Kill() })
			}
			var what string
			var w, n int64
			fmt.Sscan(lines.Text(), &what, &w, &n)
			switch what {
			case "begin":
				inFlight[w] = n
			case "done":
				inFlight[w] = n + 1
				acknowledged[(w*ownBlocks+n%ownBlocks)*delta.Block] = n
			}
		}
		cmd.Wait() // "signal: killed"
		if kill == nil {
			t.Fatalf("round %d: the writer never wrote", round)
		}
		j, err := delta.Open(killConfig(dir), killIdentity(volume))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		p := make([]byte, delta.Block)
		for off, n := range acknowledged {
			if _, err := j.Read(context.Background(), p, off); err != nil {
				t.Fatal(err)
			}
			got, err := unstamp(p[:sectorSize], off)
			if err != nil {
				t.Fatal(err)
			}
			if got != n && got != inFlight[off/delta.Block/ownBlocks] {
				t.Fatalf("round %d: block at %d holds write %d, but %d was acknowledged", round, off, got, n)
			}
			acknowledged[off] = got
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d acknowledged writes, %d kills", total, rounds)
}
