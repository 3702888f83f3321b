package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A command that waits for Swift says so soon, and is not silent until it gives up.
func TestCommandSaysWhatItWaitsFor(t *testing.T) {
	a := newAdmin(t)
	a.Setenv("ST_AUTH", "http://127.0.0.1:1/auth/v1.0")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, a.args("volume", "create", "v", "--size", "1Gi")...)
	c.Env = append(os.Environ(), asProgram+"=1")
	stderr, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	if !lines.Scan() || !strings.Contains(lines.Text(), "waiting for the object store") || !strings.Contains(lines.Text(), "connection refused") {
		t.Errorf("after %v it says first: %s", time.Since(began), lines.Text())
	}
	if waited := time.Since(began); waited > 40*time.Second {
		t.Errorf("silent for %v", waited)
	}
	c.Process.Signal(syscall.SIGINT)
	for lines.Scan() {
		t.Log(lines.Text())
	}
	c.Wait()
}
