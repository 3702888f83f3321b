package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/preflight"
)

// unfit makes a host that lacks everything, and returns the flags that lead to it.
func (a *admin) unfit() (root string, flags []string) {
	root = filepath.Join(a.dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "state"), 0o755); err != nil {
		a.Fatal(err)
	}
	return root, []string{"preflight", "--host-root", root, "--state", "/state", "--network", ":13261"}
}

// preflight runs the command, and returns its results by check.
func (a *admin) preflight(args ...string) (map[string]preflight.Result, error) {
	a.Helper()
	out, err := a.try(a.Context(), append(args, "--json")...)
	var list []preflight.Result
	decode(a.T, out, &list)
	results := make(map[string]preflight.Result)
	for _, r := range list {
		results[r.Check] = r
	}
	return results, err
}

func TestPreflight(t *testing.T) {
	a := newAdmin(t)
	_, flags := a.unfit()
	results, err := a.preflight(flags...)
	if !errors.Is(err, errUnfit) || len(results) != 12 {
		t.Errorf("%d results, %v: %+v", len(results), err, results)
	}
	for check, want := range map[string]preflight.Verdict{
		"kernel module": preflight.Failure, "iscsid": preflight.Failure, "initiator name": preflight.Failure,
		"tools": preflight.Failure, "tools for xfs": preflight.Warning,
		"portal": preflight.OK, "network port": preflight.OK,
		"Swift": preflight.OK, "clock": preflight.OK,
	} {
		if r := results[check]; r.Verdict != want || r.Found == "" || (r.Remedy == "") != (want == preflight.OK) {
			t.Errorf("%s: %+v, want %s", check, r, want)
		}
	}
	if _, err := a.try(t.Context(), flags...); !errors.Is(err, errUnfit) {
		t.Errorf("for people: %v", err)
	}
	a.refused("remedy", flags...)
}

func TestPreflightWithoutSwift(t *testing.T) {
	a := newAdmin(t)
	_, flags := a.unfit()
	t.Setenv("ST_KEY", "wrong")
	if results, _ := a.preflight(flags...); results["Swift"].Verdict != preflight.Failure {
		t.Errorf("a wrong key: %+v", results["Swift"])
	}
	t.Setenv("ST_AUTH", "")
	if results, _ := a.preflight(flags...); results["Swift"].Verdict != preflight.Failure {
		t.Errorf("no credentials: %+v", results["Swift"])
	}
}

// Before the processes start Swift keeps no node from starting, and a node that has
// volumes is never kept from serving them.
func TestPreflightInit(t *testing.T) {
	a := newAdmin(t)
	root, flags := a.unfit()
	flags = append(flags, "--init")
	results, err := a.preflight(flags...)
	if !errors.Is(err, errUnfit) || results["Swift"].Verdict != preflight.OK || results["clock"].Verdict != preflight.OK {
		t.Errorf("a new node: %v, %+v", err, results)
	}
	t.Setenv("ST_KEY", "wrong")
	if results, _ := a.preflight(flags...); results["Swift"].Verdict != preflight.Warning || results["Swift"].Remedy == "" {
		t.Errorf("a wrong key: %+v", results["Swift"])
	}
	if err := os.MkdirAll(filepath.Join(root, "state/export/volume"), 0o755); err != nil {
		t.Fatal(err)
	}
	results, err = a.preflight(flags...)
	if _, asked := results["Swift"]; asked || err != nil || results["iscsid"].Verdict != preflight.Failure {
		t.Errorf("a node with volumes: %v, %+v", err, results)
	}
	if _, err := a.preflight(flags[:len(flags)-1]...); !errors.Is(err, errUnfit) {
		t.Errorf("an administrator who asks: %v", err)
	}
}

// A Swift that takes connections and is silent is not waited for longer than was said.
func TestPreflightOfASilentSwift(t *testing.T) {
	newAdmin(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	t.Setenv("ST_AUTH", "http://"+silent.Addr().String()+"/auth/v1.0")
	began := time.Now()
	results := preflightStore(t.Context(), 300*time.Millisecond)
	if took := time.Since(began); took > 20*time.Second || !preflight.Failed(results) {
		t.Errorf("%+v, after %v", results, took)
	}
}
