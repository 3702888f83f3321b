package targets

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Ours builds the test target of this module in dir and returns it as a server
// that runs with more arguments.
func Ours(ctx context.Context, dir string, race bool, more ...string) (*Server, error) {
	binary := filepath.Join(dir, "ramtarget")
	build := []string{"build", "-o", binary}
	if race {
		build = append(build, "-race")
	}
	build = append(build, "github.com/swiftblock/csi-swiftblock/test/targets/ramtarget")
	if text, err := exec.CommandContext(ctx, "go", build...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, text)
	}
	return &Server{
		Name: "ours",
		command: func() *exec.Cmd {
			return exec.Command(binary, append([]string{"-size", fmt.Sprint(int64(DeviceSize))}, more...)...)
		},
		ready: func(_ context.Context, stdout *bufio.Reader) (string, error) {
			line, err := stdout.ReadString('\n')
			return strings.TrimSpace(line), err
		},
	}, nil
}
