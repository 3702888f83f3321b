package volume

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// victim says what the process that will be killed does. It gets it as JSON in
// an environment variable.
type victim struct {
	Store     swift.Credentials
	Dir       string // of the journal; the head is kept in Dir + ".head"
	Volume    ident.Volume
	Epoch     ident.Epoch
	Container string
	Size      int64
	Seed      uint64
	First     uint32 // number of the first write
}

const victimVariable = "SWIFTBLOCK_TEST_VICTIM"

// TestMain becomes the victim when it is told to.
func TestMain(m *testing.M) {
	if job := os.Getenv(victimVariable); job != "" {
		var v victim
		err := json.Unmarshal([]byte(job), &v)
		if err == nil {
			err = v.work()
		}
		fmt.Fprintln(os.Stderr, "victim:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// open opens the victim's volume, as export does after a restart.
func (v victim) open() (*Volume, error) {
	store, err := swift.New(v.Store, swift.Options{})
	if err != nil {
		return nil, err
	}
	var head *snapshots.Root
	object, err := os.ReadFile(v.Dir + ".head")
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		gen := uint64(0)
		var body []byte
		if _, err := fmt.Sscanf(string(object[:16]), "%016x", &gen); err != nil {
			return nil, err
		}
		body = object[16:]
		at := snapshots.Location{Container: v.Container, Name: chunks.RootName(v.Epoch, gen)}
		if head, err = snapshots.DecodeRoot(at, body); err != nil {
			return nil, err
		}
	}
	config := delta.Config{Dir: v.Dir, SegmentSize: 1 << 20, Quota: 32 << 20, AllowAnyFS: true}
	id := delta.Identity{Volume: v.Volume, Epoch: v.Epoch}
	journal, err := delta.Open(config, id)
	if errors.Is(err, fs.ErrNotExist) {
		journal, err = delta.Create(config, id, InitialState(head, v.Size))
	}
	if err != nil {
		return nil, err
	}
	return Open(context.Background(), Config{
		Journal: journal, Store: store, Container: v.Container, Head: head, RPO: 50 * time.Millisecond,
		OnPublished: func(_ context.Context, p Published) error {
			kept := fmt.Appendf(nil, "%016x%s", p.Root.Ref.Gen, p.Object)
			if err := os.WriteFile(v.Dir+".new", kept, 0o600); err != nil {
				return err
			}
			return os.Rename(v.Dir+".new", v.Dir+".head")
		},
	})
}

// step is one write of the victim: sectors from First on, or zeros.
type step struct {
	ID    uint32
	First int
	Count int
	Zero  bool
}

// steps are the victim's writes, the same for the same seed; sectors is the size
// of the volume.
func steps(seed uint64, first uint32, sectors int) func() step {
	rng := rand.New(rand.NewPCG(seed, 0))
	id := first
	return func() step {
		s := step{ID: id, Count: 1 + rng.IntN(64), Zero: rng.IntN(6) == 0}
		if rng.IntN(100) == 0 {
			s.Count = 2000
		}
		s.First = rng.IntN(sectors - s.Count)
		id++
		return s
	}
}

// work writes for ever and says what was acknowledged.
func (v victim) work() error {
	volume, err := v.open()
	if err != nil {
		return err
	}
	next := steps(v.Seed, v.First, int(v.Size/512))
	for ctx := context.Background(); ; {
		s := next()
		fmt.Println("begin", s.ID)
		if s.Zero {
			err = volume.Discard(ctx, int64(s.First)*512, int64(s.Count)*512)
		} else {
			p := make([]byte, s.Count*512)
			for i := range s.Count {
				encode(p[i*512:][:512], s.ID, s.First+i)
			}
			err = volume.WriteAt(ctx, p, int64(s.First)*512, s.ID%32 == 0)
		}
		if err != nil {
			return err
		}
		fmt.Println("acked", s.ID)
	}
}

// lives is how many rounds a volume of TestKill lasts: what it puts into the store,
// some ten MiB in each round, goes with it.
const lives = 20

// A process that is killed with kill -9 under load, again and again, on a real
// disk: every write that was acknowledged is there afterwards (P1, P8), and the
// one under way is there wholly or not, up to where it is cut into records. The
// witness of what was acknowledged is this process.
func TestKill(t *testing.T) {
	cred := swift.Credentials{Version: 1, AuthURL: os.Getenv("ST_AUTH"), User: os.Getenv("ST_USER"), Key: os.Getenv("ST_KEY")}
	what := "real Swift"
	if cred.AuthURL == "" {
		_, server := swifttest.NewServer(t, embedded.Options{NoSync: true})
		cred, what = swifttest.Credentials(server), "embedded"
	}
	rounds := 4
	if n, err := strconv.Atoi(os.Getenv("SWIFTBLOCK_KILL_ROUNDS")); err == nil {
		rounds = n
	} else if testing.Short() {
		rounds = 2
	}
	k := killing{T: t, store: swifttest.NewClient(t, cred), rounds: rounds, seed: uint64(time.Now().UnixNano())}
	t.Logf("store: %s at %s; seed %d", what, cred.AuthURL, k.seed)
	for k.done < rounds {
		k.volume(cred, min(lives, rounds-k.done))
	}
	t.Logf("counted: %d times kill -9, %d acknowledged writes, none lost; %d MiB went to the store (%s)", k.done, k.acked, k.stored>>20, what)
}

// killing counts what happened to the volumes of one run.
type killing struct {
	*testing.T
	store  swift.Store
	seed   uint64 // of the next volume
	rounds int
	done   int
	acked  int
	stored int64
}

// volume makes a volume and kills the process that serves it n times. At the end
// the volume is read by another node, from the store alone, and removed.
func (k *killing) volume(cred swift.Credentials, n int) {
	k.Helper()
	v := victim{
		Store: cred, Dir: filepath.Join(k.TempDir(), "journal"), Volume: ident.NewVolume(), Epoch: ident.NewEpoch(1),
		Size: 48 * mib, First: 1, Seed: k.seed,
	}
	k.seed += uint64(n)
	v.Container = "sb-kill-" + string(v.Volume)
	must := func(err error) {
		k.Helper()
		if err != nil {
			k.Fatal(err)
		}
	}
	must(k.store.CreateContainer(k.Context(), v.Container))
	rng := rand.New(rand.NewPCG(v.Seed, 1))
	s := &subject{past: []state{make(state, v.Size/512)}}
	serve := func() {
		volume, err := v.open()
		must(err)
		s.rig = &rig{Volume: volume, t: k.T, ctx: k.Context()}
	}
	for round := range n {
		acked := v.run(k.T, time.Duration(300+rng.IntN(700))*time.Millisecond, s)
		serve()
		s.settle(len(s.past) - 2) // all that was acknowledged, and perhaps one more
		if round%2 == 1 {
			s.publish("") // and from Swift
			s.verify(0, len(s.now()))
		}
		must(s.Stop())
		k.done, k.acked = k.done+1, k.acked+acked
		published := uint64(0) // the first life may end before anything is
		if head := s.Stats().Head; head != nil {
			published = head.Ref.Gen
		}
		k.Logf("kill %d of %d: %d writes acknowledged and found, %d in all; generation %d is in the store",
			k.done, k.rounds, acked, k.acked, published)
		s.past = s.past[len(s.past)-1:]
		v.First, v.Seed = v.First+uint32(acked)+1, v.Seed+1
	}
	serve()
	s.rig = &rig{
		t: k.T, ctx: k.Context(), store: &spy{Store: k.store}, root: k.TempDir(),
		id: v.Volume, container: v.Container, epoch: v.Epoch, head: s.close(), size: v.Size,
	}
	s.nextEpoch()
	s.verify(0, len(s.now()))
	must(s.Stop())
	k.stored += remove(k.T, k.store, v.Container)
}

// remove deletes a container and returns how many bytes were in it.
func remove(t *testing.T, store swift.Store, container string) (size int64) {
	t.Helper()
	for {
		page, err := store.List(t.Context(), container, "", "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		names := make([]string, len(page))
		for i, object := range page {
			names[i] = object.Name
			size += object.Size
		}
		if err := store.DeleteMany(t.Context(), container, names); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.DeleteContainer(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	return size
}

// run starts a victim, kills it after a while, and enters in s the states that it
// brought the volume to: the last one by the write that was not acknowledged.
func (v victim) run(t *testing.T, after time.Duration, s *subject) (acked int) {
	t.Helper()
	job, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimVariable+"="+string(job))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the victim did not begin:", cmd.Wait())
	}
	kill := time.AfterFunc(after, func() { cmd.Process.Kill() })
	defer kill.Stop()
	for lines.Scan() {
		var id uint32
		if n, _ := fmt.Sscanf(lines.Text(), "acked %d", &id); n == 1 {
			acked++
		}
	}
	cmd.Wait() // killed
	next := steps(v.Seed, v.First, len(s.now()))
	now := s.now()
	for range acked {
		now = next().on(now)
	}
	s.past = []state{now, next().on(now)}
	return acked
}

// on returns the state that s makes of old.
func (s step) on(old state) state {
	now := append(state(nil), old...)
	for i := range s.Count {
		now[s.First+i] = s.ID
		if s.Zero {
			now[s.First+i] = 0
		}
	}
	return now
}
