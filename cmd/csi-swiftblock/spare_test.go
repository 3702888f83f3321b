package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/attach"
)

// What an export process leaves has secrets in it: for root alone, and in no error.
func TestSpare(t *testing.T) {
	run := t.TempDir()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte("a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"OS_AUTH_URL": "https://keystone/v3", "OS_USERNAME": "me", "OS_PASSWORD": "correct-horse", "OS_USER_DOMAIN_NAME": "d",
		"OS_PROJECT_NAME": "p", "OS_PROJECT_DOMAIN_NAME": "d", "OS_CACERT": ca,
		"OS_CLOUD": "", "OS_CLIENT_CONFIG_FILE": "", "ST_AUTH": "",
	} {
		t.Setenv(name, value)
	}
	leaveSpare(attach.Config{Node: "n1", Dir: "/state/export", RunDir: run}, "127.0.0.1:1")
	path := filepath.Join(run, spareFile)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if err := os.Remove(ca); err != nil { // it went with the container
		t.Fatal(err)
	}
	s, err := loadSpare(run)
	if err != nil || s.Portal != "127.0.0.1:1" || s.State != "/state/export" || s.Node != "n1" || s.Swift.Key != "correct-horse" || s.Process != os.Getpid() {
		t.Errorf("%+v, %v", s, err)
	}
	if text, err := os.ReadFile(s.Swift.CAFile); err != nil || string(text) != "a certificate" {
		t.Errorf("%q, %v", text, err)
	}
	if err := os.WriteFile(path, []byte(`{"swift": "correct-horse"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadSpare(run); err == nil || strings.Contains(err.Error(), "correct-horse") {
		t.Errorf("%v", err)
	}
}
