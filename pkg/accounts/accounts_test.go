package accounts_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/accounts"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

func TestAccountsSurviveTheProcess(t *testing.T) {
	dir := t.TempDir()
	own := swifttest.NewStore(t)
	client, server := swifttest.NewServer(t, embedded.Options{NoSync: true})
	secrets := map[string]string{"ST_AUTH": server.URL, "ST_USER": server.User(), "ST_KEY": server.Key()}

	first := accounts.New(own, accounts.Directory(dir), swift.Options{})
	name, err := first.Add(secrets)
	if err != nil || name == accounts.Own {
		t.Fatalf("%q, %v", name, err)
	}
	if none, err := first.Add(nil); err != nil || none != accounts.Own {
		t.Errorf("no secrets are those of account %q, %v", none, err)
	}
	for _, a := range []*accounts.Accounts{first, accounts.New(own, accounts.Directory(dir), swift.Options{})} {
		store, err := a.Store(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.CreateContainer(t.Context(), "c"); err != nil {
			t.Error(err)
		}
		if have, err := a.Store(accounts.Own); err != nil || have != own {
			t.Errorf("the own account is %v, %v", have, err)
		}
	}
	if names, err := client.Containers(t.Context(), "", "", 0); err != nil || len(names) != 1 {
		t.Errorf("the account has %v, %v", names, err)
	}
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the secrets: %v, %v", info.Mode(), err)
	}
}

// A key that was replaced is used for the next log-in, and has the same name.
func TestRotation(t *testing.T) {
	_, server := swifttest.NewServer(t, embedded.Options{NoSync: true})
	a := accounts.New(nil, accounts.Directory(t.TempDir()), swift.Options{Patience: -1})
	secrets := map[string]string{"ST_AUTH": server.URL, "ST_USER": server.User(), "ST_KEY": "of last year"}
	name, err := a.Add(secrets)
	if err != nil {
		t.Fatal(err)
	}
	store, err := a.Store(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.CreateContainer(t.Context(), "c"); !errors.Is(err, swift.ErrUnauthorized) {
		t.Fatalf("with a wrong key: %v", err)
	}
	secrets["ST_KEY"] = server.Key()
	if again, err := a.Add(secrets); err != nil || again != name {
		t.Fatalf("another key gives account %q instead of %q, %v", again, name, err)
	}
	if err := store.CreateContainer(t.Context(), "c"); err != nil {
		t.Errorf("with the new key: %v", err)
	}
}

func TestUnknownAccounts(t *testing.T) {
	a := accounts.New(nil, accounts.Directory(t.TempDir()), swift.Options{})
	if _, err := a.Store("0123456789abcdef0123456789abcdef"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want that there is none", err)
	}
	for _, name := range []string{"../../etc/passwd", "x", "0123456789ABCDEF0123456789abcdef"} {
		if _, err := a.Store(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Secrets that are refused do not take the place of those that work: whoever may give
// some, also for an account that is not theirs, could take it from all its volumes.
func TestRefusedSecretsReplaceNone(t *testing.T) {
	_, server := swifttest.NewServer(t, embedded.Options{NoSync: true})
	vault := accounts.Directory(t.TempDir())
	a := accounts.New(nil, vault, swift.Options{Patience: -1})
	good := map[string]string{"ST_AUTH": server.URL, "ST_USER": server.User(), "ST_KEY": server.Key()}
	name, err := a.Add(good)
	if err == nil {
		err = a.Check(t.Context(), name)
	}
	if err != nil {
		t.Fatal(err)
	}
	bad := maps.Clone(good)
	bad["ST_KEY"] = "mistyped"
	if _, err := a.Add(bad); !errors.Is(err, swift.ErrUnauthorized) {
		t.Errorf("a wrong key: %v, want that it is refused", err)
	}
	restarted := accounts.New(nil, vault, swift.Options{Patience: -1})
	if err := restarted.Check(t.Context(), name); err != nil {
		t.Errorf("after a restart the account is lost: %v", err)
	}
}

// What is removed is gone, and what is not there need not be; no other file is touched.
func TestRemoved(t *testing.T) {
	const name = "0123456789abcdef0123456789abcdef"
	dir := t.TempDir()
	vault := accounts.Directory(filepath.Join(dir, "accounts"))
	if err := vault.Save(name, map[string]string{"ST_USER": "u"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := vault.Remove(name); err != nil {
			t.Error(err)
		}
		if _, err := vault.Load(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load: %v", err)
		}
	}
	beside := filepath.Join(dir, "beside")
	if err := os.WriteFile(beside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := vault.Remove("../beside"); err == nil {
		t.Error("a path was taken for a name")
	}
	if _, err := os.Stat(beside); err != nil {
		t.Error(err)
	}
}
