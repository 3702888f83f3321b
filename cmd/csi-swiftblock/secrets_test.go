package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/swiftblock/csi-swiftblock/pkg/attach"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// processes are csi-swiftblock's, with their output in files.
type processes struct {
	*admin
	pids map[string]int
}

func (p *processes) path(name string) string     { return filepath.Join(p.dir, name) }
func (p *processes) endpoint(name string) string { return "unix://" + p.path(name+".sock") }

// start runs a process until the test ends.
func (p *processes) start(name string, args ...string) {
	p.Helper()
	program, err := os.Executable()
	if err != nil {
		p.Fatal(err)
	}
	log, err := os.Create(p.path(name + ".log"))
	if err != nil {
		p.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, append([]string{name, "--log-level", "debug"}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	p.pids[name] = cmd.Process.Pid
	p.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
}

func (p *processes) dial(name string) *grpc.ClientConn {
	p.Helper()
	conn, err := grpc.NewClient(p.endpoint(name), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { conn.Close() })
	return conn
}

// seen returns where any of the secrets can be seen: in logs, in the arguments of
// a process, or in a file that others may read.
func (p *processes) seen(secrets ...string) (places []string) {
	p.Helper()
	look := func(place string, text []byte) {
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				places = append(places, place)
			}
		}
	}
	for name, pid := range p.pids {
		for place, path := range map[string]string{
			"the log of " + name:       p.path(name + ".log"),
			"the arguments of " + name: fmt.Sprintf("/proc/%d/cmdline", pid),
		} {
			text, err := os.ReadFile(path)
			if err != nil || len(text) == 0 {
				p.Errorf("%s: %d bytes, %v", place, len(text), err)
			}
			look(place, text)
		}
	}
	err := filepath.Walk(p.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
			return err
		}
		text, err := os.ReadFile(path)
		look(path, text)
		return err
	})
	if err != nil {
		p.Error(err)
	}
	return places
}

// Neither logs nor arguments show the keys of Swift, of the process or of a class,
// those that volumes are encrypted with, or a CHAP secret, whether calls succeed or fail.
func TestNothingSecretIsSeen(t *testing.T) {
	p := &processes{newAdmin(t), map[string]int{}}
	_, theirs := swifttest.NewServer(t, embedded.Options{NoSync: true})
	const wrongKey = "the-key-of-last-year"
	class := func(key string) map[string]string {
		return map[string]string{"ST_AUTH": theirs.URL, "ST_USER": theirs.User(), "ST_KEY": key, keys.Field: oneKey}
	}

	p.start("controller", "--csi", p.endpoint("controller"), "--openings", p.endpoint("openings"), "--authority", p.path("authority"))
	p.start("export", "--state", p.path("state"), "--run", p.path("run"), "--node", "n", "--listen", p.endpoint("export"),
		"--controller", p.endpoint("openings"), "--portal", "127.0.0.1:0")
	p.start("node", "--csi", p.endpoint("node"), "--export", p.endpoint("export"), "--node", "n",
		"--host-prefix", "false") // none of the host's tools runs
	controller := csi.NewControllerClient(p.dial("controller"))
	exports, node := wire.NewExportsClient(p.dial("export")), csi.NewNodeClient(p.dial("node"))

	block := &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
	create := &csi.CreateVolumeRequest{
		Name: "v", CapacityRange: &csi.CapacityRange{RequiredBytes: 64 << 20}, VolumeCapabilities: []*csi.VolumeCapability{block},
		Parameters: map[string]string{"journalSize": "512Mi", "encryption": "aes-256-gcm"}, Secrets: class(wrongKey),
	}
	if _, err := controller.CreateVolume(t.Context(), create); err == nil || strings.Contains(err.Error(), wrongKey) {
		t.Errorf("with a wrong key: %v", err)
	}
	create.Secrets = class(theirs.Key())
	created, err := controller.CreateVolume(t.Context(), create)
	if err != nil {
		t.Fatal(err)
	}
	id := created.GetVolume().GetVolumeId()
	publish := &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: "n", VolumeCapability: block, Secrets: create.Secrets}
	if _, err := controller.ControllerPublishVolume(t.Context(), publish); err != nil {
		t.Fatal(err)
	}
	ring, credentials, err := keys.Split(create.Secrets)
	if err != nil {
		t.Fatal(err)
	}
	attached, err := exports.Attach(t.Context(), &wire.AttachRequest{Volume: id, Secrets: credentials, ClassKeys: ring.Names()})
	if err != nil {
		t.Fatal(err)
	}
	stage := &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: p.path("staging"), VolumeCapability: block, Secrets: class(wrongKey)}
	for _, secrets := range []map[string]string{stage.Secrets, create.Secrets} {
		stage.Secrets = secrets
		if _, err := node.NodeStageVolume(t.Context(), stage); err == nil || strings.Contains(err.Error(), attached.GetChapSecret()) {
			t.Errorf("stage: %v", err)
		}
	}
	set, err := attach.KeysOf(p.path("run"), id)
	if err != nil {
		t.Fatal(err)
	}
	volumeKey := set.Secret()
	classKey := strings.TrimSpace(oneKey)
	if seen := p.seen(p.swift.Key(), theirs.Key(), wrongKey, attached.GetChapSecret(), classKey, hex.EncodeToString(volumeKey[:]), string(volumeKey[:])); len(seen) > 0 {
		t.Errorf("a secret is in %q", seen)
	}
}
