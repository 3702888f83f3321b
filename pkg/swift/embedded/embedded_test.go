package embedded_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// serveEnv, set to a directory, makes the test binary a server of it.
const serveEnv = "SWIFTBLOCK_TEST_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		server, err := embedded.Start(dir, "127.0.0.1:0", embedded.Options{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(server.URL, server.User(), server.Key())
		io.Copy(io.Discard, os.Stdin) // ends with the test
		return
	}
	os.Exit(m.Run())
}

// serve starts another process that serves dir.
func serve(t *testing.T, dir string) (swift.Store, *os.Process) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+dir)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) != 3 {
		t.Fatalf("server says %q, %v", line, err)
	}
	client, err := swift.New(swift.Credentials{Version: 1, AuthURL: fields[0], User: fields[1], Key: fields[2]}, swift.Options{Patience: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client, cmd.Process
}

// What was acknowledged is there after kill -9, whole and as it was; what was not
// is there whole or not at all.
func TestKill(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	stored := map[string][]byte{} // acknowledged
	for round := range 3 {
		store, process := serve(t, dir)
		if err := store.CreateContainer(ctx, "c"); err != nil {
			t.Fatal(err)
		}
		for name, body := range stored {
			obj, err := store.Get(ctx, "c", name, swift.GetOptions{})
			if err != nil || !bytes.Equal(obj.Body, body) {
				t.Errorf("round %d: %s: %d bytes, %v", round, name, len(obj.Body), err)
			}
		}
		rows, err := store.List(ctx, "c", "", "", 0)
		if err != nil || len(rows) < len(stored) {
			t.Errorf("round %d: %d listed of %d, %v", round, len(rows), len(stored), err)
		}
		for _, row := range rows {
			if obj, err := store.Get(ctx, "c", row.Name, swift.GetOptions{}); err != nil || obj.ETag != row.ETag || int64(len(obj.Body)) != row.Size {
				t.Errorf("round %d: listed %+v, read %d bytes, %v", round, row, len(obj.Body), err)
			}
		}
		maps.Copy(stored, putUntilKilled(t, store, process, round))
	}
	if len(stored) < 10 {
		t.Errorf("only %d objects were stored", len(stored))
	}
}

// putUntilKilled returns what was acknowledged before the death of the server.
func putUntilKilled(t *testing.T, store swift.Store, process *os.Process, round int) map[string][]byte {
	var mu sync.Mutex
	stored := map[string][]byte{}
	go func() {
		time.Sleep(150 * time.Millisecond)
		for enough := false; !enough; time.Sleep(time.Millisecond) { // a disk may be slow
			mu.Lock()
			enough = len(stored) >= 5 || t.Context().Err() != nil
			mu.Unlock()
		}
		process.Kill()
	}()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("o/%d/%d/%d", round, w, i)
				body := bytes.Repeat([]byte(name), 1000*(w+1))
				if _, err := store.Put(t.Context(), "c", name, body, swift.PutOptions{IfNoneMatch: true}); err != nil {
					return
				}
				mu.Lock()
				stored[name] = body
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return stored
}

func TestDirectoryServesOnce(t *testing.T) {
	dir := t.TempDir()
	h, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Open(dir, embedded.Options{}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("opened twice: %v", err)
	}
	key := h.Key()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h, err = embedded.Open(dir, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if h.Key() != key || key == "" {
		t.Error("the key changed")
	}
}

func TestDamagedObjectFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	client, server := openAt(t, dir)
	ctx := t.Context()
	if err := client.CreateContainer(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(ctx, "c", "o", []byte("hello"), swift.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	server.Close()
	files, err := filepath.Glob(filepath.Join(dir, "containers", "*", "????????????????*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 10, len(whole) - 5 - 1, len(whole) - 1} {
		if err := os.WriteFile(files[0], whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := embedded.Open(dir, embedded.Options{}); err == nil || !strings.Contains(err.Error(), "damaged object file") {
			t.Errorf("cut to %d bytes: %v", cut, err)
		}
	}
}

func openAt(t *testing.T, dir string) (swift.Store, *embedded.Server) {
	t.Helper()
	server, err := embedded.Start(dir, "127.0.0.1:0", embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return swifttest.NewClient(t, swifttest.Credentials(server)), server
}

// Of racing creators exactly one wins here: a race in a test has one outcome.
func TestCreationIsExclusive(t *testing.T) {
	store := swifttest.NewStore(t)
	if err := store.CreateContainer(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		var mu sync.Mutex
		won := 0
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				_, err := store.Put(t.Context(), "c", fmt.Sprint(round), []byte{byte(w)}, swift.PutOptions{IfNoneMatch: true})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, swift.ErrExists) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Fatalf("round %d: %d creators won", round, won)
		}
	}
}

func TestStats(t *testing.T) {
	client, server := swifttest.NewServer(t, embedded.Options{NoSync: true})
	ctx := t.Context()
	if err := client.CreateContainer(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(ctx, "c", "o", make([]byte, 100_000), swift.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	before := server.Stats()["GET"]
	if _, err := client.Get(ctx, "c", "o", swift.GetOptions{Off: 10, Len: 1234}); err != nil {
		t.Fatal(err)
	}
	after := server.Stats()["GET"]
	for range 3000 { // a request is counted when it has ended, a moment after the client saw that
		if after != before {
			break
		}
		time.Sleep(10 * time.Millisecond)
		after = server.Stats()["GET"]
	}
	if after.Requests-before.Requests != 1 || after.Out-before.Out != 1234 {
		t.Errorf("from %+v to %+v", before, after)
	}
	if put := server.Stats()["PUT"]; put.In != 100_000 || put.Requests != 2 {
		t.Errorf("%+v", put)
	}
	resp, err := http.Get("http://" + server.Addr() + embedded.StatsPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), `"PUT":{"requests":2,"in":100000,`) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestLatency(t *testing.T) {
	client, _ := swifttest.NewServer(t, embedded.Options{NoSync: true, Latency: 30 * time.Millisecond})
	start := time.Now()
	if err := client.CreateContainer(t.Context(), "c"); err != nil { // a log-in and a request
		t.Fatal(err)
	}
	if d := time.Since(start); d < 60*time.Millisecond {
		t.Errorf("took %v", d)
	}
}
