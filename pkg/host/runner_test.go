package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestExec(t *testing.T) {
	out, err := Exec{}.Run(t.Context(), "echo", "$HOME", "two words")
	if err != nil || string(out) != "$HOME two words\n" {
		t.Errorf("echo: %q, %v", out, err)
	}
	out, err = Exec{Prefix: []string{"env", "WHO=host"}}.Run(t.Context(), "printenv", "WHO")
	if err != nil || string(out) != "host\n" {
		t.Errorf("with a prefix: %q, %v", out, err)
	}
}

func TestExecFailures(t *testing.T) {
	var tool *ToolError
	_, err := Exec{}.Run(t.Context(), "ls", "/does/not/exist")
	if !errors.As(err, &tool) || tool.Code != 2 || !strings.Contains(tool.Stderr, "No such file") || exitCode(err) != 2 {
		t.Errorf("ls: %v", err)
	}
	_, err = Exec{}.Run(t.Context(), "no-such-tool")
	if !errors.As(err, &tool) || tool.Code != -1 || exitCode(err) != -1 {
		t.Errorf("no such tool: %v", err)
	}
	if exitCode(nil) != -1 {
		t.Error("no error has an exit code")
	}
}

// A process that the tool left behind, with the output still open, does not keep
// the caller.
func TestExecDoesNotWaitForWhatIsLeft(t *testing.T) {
	start, file := time.Now(), filepath.Join(t.TempDir(), "pid")
	if _, err := (Exec{}).Run(t.Context(), "setsid", "--fork", "sh", "-c", "echo $$ >"+file+"; exec sleep 60"); err == nil {
		t.Error("the output was cut off without an error")
	}
	if took := time.Since(start); took > killWait+30*time.Second {
		t.Errorf("took %v", took)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Error(err)
	}
}

// A tool and what it started end with the context.
func TestExecEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := Exec{}.Run(ctx, "timeout", "60", "sleep", "60")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(start); took > killWait+30*time.Second {
		t.Errorf("took %v", took)
	}
}

// A tool that is killed and does not go, as one that sleeps in the kernel, holds nobody
// whose time is up. What keeps this one is a tracer: a killed process that is traced
// cannot be waited for by its parent.
func TestToolThatCannotBeKilled(t *testing.T) {
	const traced = "HOST_TEST_TRACED"
	if pid, err := strconv.Atoi(os.Getenv(traced)); err == nil {
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0); errno != 0 {
			t.Fatal("seize: ", errno)
		}
		fmt.Println("seized")
		time.Sleep(time.Minute)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root may trace what is not its child")
	}
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := Exec{}.Run(ctx, "sh", "-c", "echo $$ >"+file+".new; mv "+file+".new "+file+"; exec sleep 60")
		ended <- err
	}()
	var pid []byte
	for len(pid) == 0 {
		time.Sleep(time.Millisecond)
		pid, _ = os.ReadFile(file)
	}
	tracer := exec.Command(os.Args[0], "-test.run=^TestToolThatCannotBeKilled$")
	tracer.Env = append(os.Environ(), traced+"="+strings.TrimSpace(string(pid)))
	said, err := tracer.StdoutPipe()
	if err == nil {
		err = tracer.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		tracer.Process.Kill()
		tracer.Wait()
	}()
	if line, err := bufio.NewReader(said).ReadString('\n'); line != "seized\n" {
		t.Fatalf("%q, %v", line, err)
	}
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(15 * killWait):
		t.Error("the caller is held")
	}
}
