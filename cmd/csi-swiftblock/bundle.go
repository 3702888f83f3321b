package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
)

const (
	logTail   = 4 << 20  // bytes of the end of each log
	askedMost = 64 << 20 // bytes of an answer of a process
	askedFor  = 10 * time.Second
)

func bundleCommand() *cobra.Command {
	var flags catalogFlags
	var state stateFlag
	var processes, logs []string
	var file string
	c := &cobra.Command{
		Use:   "support-bundle",
		Short: "Collect what helps somebody else to see what is wrong",
		Long: `Collect what helps somebody else to see what is wrong.

The tar.gz has the version, the names of the variables that are set, and of what
there is on this machine the records of volumes and snapshots, the list of journals,
and the ends of logs. Of processes with a --metrics-address it has the metrics and,
where that is a loopback address, arguments and goroutines. There is no data of
volumes in it and no secret; names of volumes and nodes are.`,
		Example: `  csi-swiftblock support-bundle --process 127.0.0.1:9810 --process 127.0.0.1:9811 --log /var/log/export.log`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				file = "csi-swiftblock-" + time.Now().UTC().Format("20060102-150405") + ".tar.gz"
			}
			out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			b := newBundle(out)
			b.machine()
			b.records(c.Context(), &flags)
			b.journals(&state)
			for _, address := range processes {
				b.process(c.Context(), address)
			}
			for _, path := range logs {
				b.log(path)
			}
			if err := errors.Join(b.close(), out.Close()); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), file)
			return err
		},
	}
	flags.add(c)
	state.add(c)
	c.Flags().StringSliceVar(&processes, "process", nil, "--metrics-address of a process to ask")
	c.Flags().StringSliceVar(&logs, "log", nil, "log whose end to add")
	c.Flags().StringVarP(&file, "output", "o", "", "file to write; default: named by the time")
	return c
}

// bundle is a tar.gz that is being written. What cannot be had is noted in it.
type bundle struct {
	gzip     *gzip.Writer
	tar      *tar.Writer
	hide     *strings.Replacer
	problems []string
	err      error // of the file
}

func newBundle(w io.Writer) *bundle {
	z := gzip.NewWriter(w)
	return &bundle{gzip: z, tar: tar.NewWriter(z), hide: strings.NewReplacer(ourSecrets()...)}
}

// ourSecrets are those of the environment and of the file that it names, each with
// what stands in its place. Nothing that is collected should hold one; this makes
// sure.
func ourSecrets() (pairs []string) {
	hide := func(secret string) {
		if secret != "" {
			pairs = append(pairs, secret, "[secret]")
		}
	}
	if cred, err := credentialsFromEnvironment(); err == nil {
		hide(cred.Key)
		hide(cred.AppSecret)
	}
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		for _, end := range []string{"KEY", "PASSWORD", "SECRET", "TOKEN"} {
			if strings.HasSuffix(name, end) {
				hide(value)
			}
		}
	}
	return pairs
}

// add takes in a part, or the reason why there is none.
func (b *bundle) add(name string, content []byte, err error) {
	if err != nil {
		b.problems = append(b.problems, b.hide.Replace(fmt.Sprintf("%s: %v", name, err)))
	}
	if len(content) == 0 || b.err != nil {
		return
	}
	content = []byte(b.hide.Replace(string(content)))
	b.err = b.tar.WriteHeader(&tar.Header{
		Name: "csi-swiftblock/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: time.Now(),
	})
	if b.err == nil {
		_, b.err = b.tar.Write(content)
	}
}

func (b *bundle) addJSON(name string, v any, err error) {
	var content []byte
	if err == nil {
		content, err = json.MarshalIndent(v, "", "  ")
	}
	b.add(name, content, err)
}

func (b *bundle) close() error {
	b.add("problems.txt", []byte(strings.Join(b.problems, "\n")), nil)
	return errors.Join(b.err, b.tar.Close(), b.gzip.Close())
}

// machine adds what runs here, and which variables of ours are set.
func (b *bundle) machine() {
	var text bytes.Buffer
	fmt.Fprintf(&text, "csi-swiftblock %s\n%s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	var host unix.Utsname
	if err := unix.Uname(&host); err == nil {
		fmt.Fprintf(&text, "Linux %s\n", unix.ByteSliceToString(host.Release[:]))
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		for _, ours := range []string{"ST_", "OS_", "OTEL_"} {
			if strings.HasPrefix(name, ours) {
				fmt.Fprintf(&text, "%s is set\n", name)
			}
		}
	}
	b.add("machine.txt", text.Bytes(), nil)
}

// records adds the volumes and snapshots of an authority that is here.
func (b *bundle) records(ctx context.Context, flags *catalogFlags) {
	s, err := flags.openRecords()
	if err != nil {
		b.add("volumes.json", nil, err)
		return
	}
	var volumes []volumeView
	err = s.eachVolume(ctx, func(v authority.Volume) error {
		volumes = append(volumes, viewVolume(v))
		return nil
	})
	b.addJSON("volumes.json", volumes, err)
	var snapshots []snapshotView
	err = s.eachSnapshot(ctx, func(v authority.Snapshot) error {
		snapshots = append(snapshots, viewSnapshot(v))
		return nil
	})
	b.addJSON("snapshots.json", snapshots, err)
}

// journals adds which journals are here.
func (b *bundle) journals(state *stateFlag) {
	list, err := state.list()
	views := make([]journalView, 0, len(list))
	for _, j := range list {
		views = append(views, j.view())
	}
	b.addJSON("journals.json", views, err)
}

// process adds what a running process shows.
func (b *bundle) process(ctx context.Context, address string) {
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	folder := strings.NewReplacer(":", "-", "/", "-").Replace(address)
	for _, part := range []struct{ name, path string }{
		{"metrics.txt", "/metrics"}, {"process.txt", "/debug/process"}, {"goroutines.txt", "/debug/goroutines"},
	} {
		content, err := ask(ctx, "http://"+address+part.path)
		b.add(folder+"/"+part.name, content, err)
	}
}

func ask(ctx context.Context, url string) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, askedMost))
}

// log adds the end of a log.
func (b *bundle) log(path string) {
	f, err := os.Open(path)
	if err != nil {
		b.add("log", nil, err)
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > logTail {
		f.Seek(-logTail, io.SeekEnd)
	}
	content, err := io.ReadAll(io.LimitReader(f, logTail))
	b.add("log/"+filepath.Base(path), content, err)
}
