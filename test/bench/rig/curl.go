package rig

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// Stored is an object in the store.
type Stored struct {
	At   snapshots.Location
	Size int
}

// Curl moves objects with the program of that name, four processes at a time.
type Curl struct{ url, token string }

// CurlProcesses is how many curls run at a time, each with its part of the objects.
const CurlProcesses = 4

// NewCurl logs in.
func NewCurl(b *Bench, s *Store) (*Curl, error) {
	r, err := http.NewRequestWithContext(b.Ctx, http.MethodGet, s.Cred.AuthURL, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-Auth-User", s.Cred.User)
	r.Header.Set("X-Auth-Key", s.Cred.Key)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	answer.Body.Close()
	c := &Curl{answer.Header.Get("X-Storage-Url"), answer.Header.Get("X-Auth-Token")}
	if answer.StatusCode/100 != 2 || c.url == "" || c.token == "" {
		return nil, fmt.Errorf("log in for curl: %s", answer.Status)
	}
	return c, nil
}

// Fetch fetches objects into files of a directory, named 0, 1, …; "": nowhere. It
// checks that all of them arrived whole.
func (c *Curl) Fetch(b *Bench, objects []Stored, dir string) error {
	return c.move(b, len(objects), "%{size_download}", func(i int) (config, want string) {
		file := "/dev/null"
		if dir != "" {
			file = filepath.Join(dir, fmt.Sprint(i))
		}
		return fmt.Sprintf("url = \"%s/%s\"\noutput = %q\n", c.url, objects[i].At, file), fmt.Sprintf("200 %d", objects[i].Size)
	})
}

// Store stores files of the given size as objects 0, 1, … of a container.
func (c *Curl) Store(b *Bench, files []string, size int64, container string) error {
	return c.move(b, len(files), "%{size_upload}", func(i int) (config, want string) {
		return fmt.Sprintf("url = \"%s/%s/%d\"\nupload-file = %q\noutput = \"/dev/null\"\n", c.url, container, i, files[i]), fmt.Sprintf("201 %d", size)
	})
}

// move runs the processes, each for every fourth of n objects, and compares what
// they say of each object with what is wanted.
func (c *Curl) move(b *Bench, n int, size string, object func(i int) (config, want string)) error {
	return Workers(CurlProcesses, func(worker int) error {
		var config strings.Builder
		var all []string
		// No object waits for the leave to be sent.
		fmt.Fprintf(&config, "header = \"X-Auth-Token: %s\"\nheader = \"Expect:\"\n", c.token)
		for i := worker; i < n; i += CurlProcesses {
			line, want := object(i)
			config.WriteString(line)
			all = append(all, want)
		}
		if len(all) == 0 {
			return nil
		}
		cmd := exec.CommandContext(b.Ctx, "curl", "-q", "-sS", "--fail", "-w", "%{http_code} "+size+"\n", "-K", "-")
		cmd.Stdin = strings.NewReader(config.String())
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("curl: %w", err)
		}
		if got := strings.TrimSpace(string(out)); got != strings.Join(all, "\n") {
			return fmt.Errorf("curl: status and bytes are %q", got)
		}
		return nil
	})
}
