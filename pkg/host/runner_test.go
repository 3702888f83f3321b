package host

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
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
	start := time.Now()
	if _, err := (Exec{}).Run(t.Context(), "setsid", "--fork", "sleep", "8"); err == nil {
		t.Error("the output was cut off without an error")
	}
	if took := time.Since(start); took > killWait+4*time.Second {
		t.Errorf("took %v", took)
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
	if took := time.Since(start); took > killWait+5*time.Second {
		t.Errorf("took %v", took)
	}
}
