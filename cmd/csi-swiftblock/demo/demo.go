// Package demo does the main job of csi-swiftblock once, with real parts, and
// says what each step cost: a disk image becomes a volume in Swift, a node
// attaches it through its own kernel's iSCSI initiator, a file system is mounted
// and written, a snapshot is taken and restored beside it.
//
// It starts controller, export and node as processes of their own and talks to
// them through the CSI sockets only, as an orchestrator would. Between them and
// Swift stands a counting proxy, so the figures are what went over the wire.
package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Config of a demo.
type Config struct {
	// State is a directory on a real disk; what the demo makes is below it and
	// is removed at the end unless Keep is set.
	State string
	Keep  bool
	// Swift is the account to use, with version 1 authentication; nil: the
	// embedded server is started.
	Swift *swift.Credentials
	// Out gets the report.
	Out io.Writer
}

const (
	portal     = "127.0.0.1:13260"
	embedded   = "127.0.0.1:18080"
	prefix     = "demo_"
	imageBytes = 512 << 20
	fileBytes  = 4 << 20
	fileCount  = 24
	grownBytes = 1 << 30
)

// Demo is one run.
type Demo struct {
	config    Config
	dir       string // below State, of this run alone
	meter     *meter
	store     *swift.Client
	processes []*process
	export    *process
	env       []string // Swift credentials for our processes
	csi       *orchestrator

	known    tree // files of the golden image
	golden   string
	volume   string
	path     string // where the volume is mounted
	snapshot string
	cut      int64 // records synced before the snapshot was asked for
	restored string
}

// Run does the demo. On any way out nothing is left running or mounted.
func Run(ctx context.Context, config Config) (err error) {
	d := &Demo{config: config}
	if err := d.check(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cleanUp()) }()
	began := time.Now()
	steps := []struct {
		what string
		do   func(context.Context) (string, error)
	}{
		{"start Swift, controller, export, node", d.begin},
		{"make a disk image with known files", d.makeImage},
		{"image import", d.importImage},
		{"create a volume from the image", d.createVolume},
		{"attach, log in, mount", d.attachVolume},
		{"read one known file", d.readOne},
		{"write under fsync, snapshot meanwhile", d.takeSnapshot},
		{"restore the snapshot beside it", d.restore},
		{"compare the restored files", d.compare},
		{"expand while in use", d.expand},
		{"kill -9 export under I/O, go on", d.killExport},
		{"detach, delete all", d.deleteAll},
	}
	fmt.Fprintf(config.Out, "%-40s %8s %6s %11s %6s %11s  %s\n", "step", "time", "PUTs", "sent", "GETs", "received", "seen")
	for _, s := range steps {
		before, start := traffic{}, time.Now()
		if d.meter != nil {
			before = d.meter.read()
		}
		seen, err := s.do(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		t := d.meter.read().minus(before)
		fmt.Fprintf(config.Out, "%-40s %7.2fs %6d %11s %6d %11s  %s\n", s.what, time.Since(start).Seconds(),
			t.puts, size(t.sent), t.gets, size(t.received), seen)
	}
	fmt.Fprintf(config.Out, "demo passed in %.1f s\n", time.Since(began).Seconds())
	return nil
}

// check finds what is missing before anything is started.
func (d *Demo) check() error {
	if os.Geteuid() != 0 {
		return errors.New("the demo logs in to iSCSI targets and mounts: run it as root")
	}
	for tool, remedy := range map[string]string{"iscsiadm": "open-iscsi", "mkfs.ext4": "e2fsprogs", "mount": "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed: apt-get install %s", tool, remedy)
		}
	}
	if _, err := os.Stat("/sys/class/iscsi_transport/tcp"); err != nil {
		return errors.New("this kernel has no iSCSI initiator (modprobe iscsi_tcp): `make demo` runs the demo in a guest that has one")
	}
	return nil
}

func (d *Demo) begin(ctx context.Context) (string, error) {
	var err error
	if err = os.MkdirAll(d.config.State, 0o700); err != nil {
		return "", err
	}
	if d.dir, err = os.MkdirTemp(d.config.State, "demo-"); err != nil {
		return "", err
	}
	for _, sub := range []string{"log", "export", "authority", "csi"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o700); err != nil {
			return "", err
		}
	}
	what := "OpenStack Swift"
	if d.config.Swift == nil {
		what = "the embedded Swift-compatible server"
		if d.config.Swift, err = d.startEmbedded(ctx); err != nil {
			return "", err
		}
	}
	if d.meter, err = newMeter(d.config.Swift.AuthURL); err != nil {
		return "", err
	}
	direct := *d.config.Swift
	if d.store, err = swift.New(direct, swift.Options{}); err != nil {
		return "", err
	}
	auth, err := url.Parse(direct.AuthURL)
	if err != nil {
		return "", err
	}
	d.env = []string{"ST_AUTH=" + d.meter.address + auth.Path, "ST_USER=" + direct.User, "ST_KEY=" + direct.Key}

	controller, err := d.start("controller", d.env, "controller", "--csi", d.socket("controller"), "--openings", d.socket("openings"),
		"--authority", filepath.Join(d.dir, "authority"), "--prefix", prefix, "--cluster", "demo", "--sweep", "1s", "--grace", "1s")
	if err != nil {
		return "", err
	}
	if err := controller.listening(ctx, d.socket("controller")); err != nil {
		return "", err
	}
	if err := d.startExport(ctx); err != nil {
		return "", err
	}
	node, err := d.start("node", nil, "node", "--csi", d.socket("node"), "--export", d.socket("export"), "--node", "demo-node")
	if err != nil {
		return "", err
	}
	if err := node.listening(ctx, d.socket("node")); err != nil {
		return "", err
	}
	d.csi, err = newOrchestrator(ctx, d.socket("controller"), d.socket("node"), filepath.Join(d.dir, "csi"))
	return what, err
}

func (d *Demo) startEmbedded(ctx context.Context) (*swift.Credentials, error) {
	account := &swift.Credentials{Version: 1, AuthURL: "http://" + embedded + "/auth/v1.0", User: "demo", Key: rand.Text()}
	server, err := d.start("swift-server", []string{"ST_USER=" + account.User, "ST_KEY=" + account.Key},
		"swift-server", "--dir", filepath.Join(d.dir, "swift"), "--listen", embedded)
	if err != nil {
		return nil, err
	}
	return account, server.listening(ctx, embedded)
}

func (d *Demo) startExport(ctx context.Context) (err error) {
	d.export, err = d.start("export", d.env, "export", "--state", filepath.Join(d.dir, "export"), "--run", filepath.Join("/run/csi-swiftblock", filepath.Base(d.dir)),
		"--listen", d.socket("export"), "--controller", d.socket("openings"), "--portal", portal, "--node", "demo-node")
	if err != nil {
		return err
	}
	return d.export.listening(ctx, portal)
}

func (d *Demo) socket(name string) string {
	return "unix://" + filepath.Join(d.dir, "csi", name+".sock")
}

func (d *Demo) makeImage(ctx context.Context) (string, error) {
	files := filepath.Join(d.dir, "golden")
	known, err := plant(files, fileCount, fileBytes, 1)
	if err != nil {
		return "", err
	}
	d.known = known
	image := filepath.Join(d.dir, "golden.img")
	if _, err := run(ctx, "mkfs.ext4", "-q", "-F", "-d", files, image, fmt.Sprintf("%dk", imageBytes>>10)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s of ext4, %d files of %s", size(imageBytes), fileCount, size(fileBytes)), nil
}

func (d *Demo) importImage(ctx context.Context) (string, error) {
	importer, err := d.start("import", d.env, "image", "import", "--authority", filepath.Join(d.dir, "authority"), "--prefix", prefix, "--cluster", "demo",
		"--name", "golden", "--json", filepath.Join(d.dir, "golden.img"))
	if err != nil {
		return "", err
	}
	select {
	case <-importer.done:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if !importer.cmd.ProcessState.Success() {
		return "", errors.New(importer.lastWords())
	}
	list, err := d.csi.controller.ListVolumes(ctx, &csi.ListVolumesRequest{})
	if err != nil {
		return "", err
	}
	if len(list.Entries) != 1 {
		return "", fmt.Errorf("%d volumes after the import, want 1", len(list.Entries))
	}
	d.golden = list.Entries[0].Volume.VolumeId
	return "volume " + d.golden, nil
}

func (d *Demo) createVolume(ctx context.Context) (_ string, err error) {
	d.volume, err = d.csi.create(ctx, "work", imageBytes, fromVolume(d.golden))
	return "no data copied: volume " + d.volume, err
}

func (d *Demo) attachVolume(ctx context.Context) (_ string, err error) {
	d.path, err = d.csi.attach(ctx, d.volume)
	return d.path, err
}

func (d *Demo) readOne(ctx context.Context) (string, error) {
	before := d.meter.read()
	n, err := d.known.verify(d.path, "d1/file05")
	if err != nil {
		return "", err
	}
	got := d.meter.read().minus(before).received
	if got > imageBytes/8 {
		return "", fmt.Errorf("reading %s fetched %s: that is a download of the image", size(n), size(got))
	}
	return fmt.Sprintf("%s right; %.1f%% of the image fetched", size(n), 100*float64(got)/imageBytes), nil
}

func (d *Demo) takeSnapshot(ctx context.Context) (string, error) {
	w, err := startWriter(ctx, filepath.Join(d.path, "log"))
	if err != nil {
		return "", err
	}
	defer w.stop()
	if err := w.reached(ctx, 50); err != nil {
		return "", err
	}
	d.cut = w.synced.Load()
	if d.snapshot, err = d.csi.snapshot(ctx, "before", d.volume); err != nil {
		return "", err
	}
	if err := w.reached(ctx, 50); err != nil {
		return "", err
	}
	if err := w.end(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d records synced, slowest %v", w.synced.Load(), time.Duration(w.longest.Load()).Round(time.Millisecond)), nil
}

func (d *Demo) restore(ctx context.Context) (_ string, err error) {
	if d.restored, err = d.csi.create(ctx, "restored", imageBytes, fromSnapshot(d.snapshot)); err != nil {
		return "", err
	}
	return d.csi.attach(ctx, d.restored)
}

func (d *Demo) compare(ctx context.Context) (string, error) {
	_, path := d.csi.paths(d.restored)
	if err := dropCaches(); err != nil {
		return "", err
	}
	n, err := d.known.verify(path, d.known.names()...)
	if err != nil {
		return "", err
	}
	then, err := records(filepath.Join(path, "log"))
	if err != nil {
		return "", err
	}
	now, err := records(filepath.Join(d.path, "log"))
	if err != nil {
		return "", err
	}
	if then < d.cut || then >= now {
		return "", fmt.Errorf("the snapshot holds %d records; %d were synced before it and %d in the end", then, d.cut, now)
	}
	return fmt.Sprintf("%s of known files right; %d of %d records, ≥ %d synced before the cut", size(n), then, now, d.cut), nil
}

func (d *Demo) expand(ctx context.Context) (string, error) {
	before, err := d.csi.capacity(ctx, d.volume)
	if err != nil {
		return "", err
	}
	if err := d.csi.expand(ctx, d.volume, grownBytes); err != nil {
		return "", err
	}
	after, err := d.csi.capacity(ctx, d.volume)
	if err != nil {
		return "", err
	}
	if after < grownBytes*9/10 {
		return "", fmt.Errorf("the file system has %s, the volume %s", size(after), size(grownBytes))
	}
	return fmt.Sprintf("file system %s → %s", size(before), size(after)), nil
}

func (d *Demo) killExport(ctx context.Context) (string, error) {
	name := filepath.Join(d.path, "log2")
	w, err := startWriter(ctx, name)
	if err != nil {
		return "", err
	}
	defer w.stop()
	if err := w.reached(ctx, 50); err != nil {
		return "", err
	}
	if err := d.export.kill(); err != nil {
		return "", err
	}
	time.Sleep(2 * time.Second)
	if err := d.startExport(ctx); err != nil {
		return "", err
	}
	if err := w.reached(ctx, 50); err != nil {
		return "", err
	}
	if err := w.end(); err != nil {
		return "", err
	}
	if err := dropCaches(); err != nil {
		return "", err
	}
	n, err := records(name)
	if err != nil {
		return "", err
	}
	if n < w.synced.Load() {
		return "", fmt.Errorf("%d records of %d that were synced", n, w.synced.Load())
	}
	kernel, err := run(ctx, "dmesg")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(kernel) {
		if strings.Contains(line, "I/O error") || strings.Contains(line, "EXT4-fs error") || strings.Contains(line, "Buffer I/O") {
			return "", fmt.Errorf("kernel: %s", strings.TrimSpace(line))
		}
	}
	return fmt.Sprintf("no I/O error; %d records, longest wait %v", n, time.Duration(w.longest.Load()).Round(time.Millisecond)), nil
}

func (d *Demo) deleteAll(ctx context.Context) (string, error) {
	for _, id := range []string{d.volume, d.restored} {
		if err := d.csi.detach(ctx, id); err != nil {
			return "", err
		}
	}
	for _, id := range []string{d.golden, d.volume} { // sources before what was made from them: any order will do
		if err := d.csi.deleteVolume(ctx, id); err != nil {
			return "", err
		}
	}
	if err := d.csi.deleteSnapshot(ctx, d.snapshot); err != nil {
		return "", err
	}
	if err := d.csi.deleteVolume(ctx, d.restored); err != nil {
		return "", err
	}
	for limit := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		left, err := d.store.Containers(ctx, prefix, "", 0)
		if err != nil {
			return "", err
		}
		if len(left) == 0 {
			return "nothing left in Swift", nil
		}
		if time.Now().After(limit) {
			return "", fmt.Errorf("left in Swift: %s", strings.Join(left, ", "))
		}
	}
}

// dropCaches makes the next reads come from the device, so that they prove what
// is there and not what the kernel remembers.
func dropCaches() error {
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// cleanUp ends everything that was started, however far the demo got.
func (d *Demo) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	if d.csi != nil {
		for _, id := range []string{d.volume, d.restored} {
			if id == "" {
				continue
			}
			staging, target := d.csi.paths(id)
			if isMounted(target) || isMounted(staging) {
				errs = append(errs, d.csi.detach(ctx, id))
			}
		}
		d.csi.close()
	}
	for i := len(d.processes) - 1; i >= 0; i-- {
		errs = append(errs, d.processes[i].stop())
	}
	if d.meter != nil {
		d.meter.close()
	}
	if d.dir != "" && !d.config.Keep && errors.Join(errs...) == nil {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}

func isMounted(path string) bool {
	var here, above syscall.Stat_t
	if syscall.Lstat(path, &here) != nil || syscall.Lstat(filepath.Dir(path), &above) != nil {
		return false
	}
	return here.Dev != above.Dev
}
